// SPDX-License-Identifier: Apache-2.0
#include "version.hpp"

#include "metro_commit.hpp"  // the build writes it (cmake/commit.cmake)

namespace metro::cli {

std::string version_text() {
  std::string text = "metro " METRO_VERSION "\n";
  const std::string commit = kCommit;
  if (!commit.empty()) text += "commit " + commit + "\n";
  text += "compiled by " METRO_COMPILER;
#ifdef METRO_HAVE_CUDA
  text += ", CUDA " METRO_CUDA_COMPILER "\n";
#else
  text += ", without CUDA\n";
#endif
  return text;
}

}  // namespace metro::cli
