// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "io/output_file.hpp"
#include "io/parse.hpp"
#include "io/sha256.hpp"
#include "unit/io_support.hpp"

namespace metro::io {
namespace {

using io_test::get;
using io_test::message_of;
using io_test::put;
using io_test::TempDir;
namespace fs = std::filesystem;

TEST(IoWrite, ReplacesAFileAndLeavesNothingBeside) {
  const TempDir dir;
  put(dir / "out.json", "old");
  write_file(dir / "out.json", "new\n");
  EXPECT_EQ(get(dir / "out.json"), "new\n");
  EXPECT_EQ(dir.entries(), 1U);
}

TEST(IoWrite, ReadersOfTheOldFileKeepIt) {
  const TempDir dir;
  put(dir / "out.json", "old");
  std::ifstream reader(dir / "out.json");
  write_file(dir / "out.json", "new");
  std::string seen;
  reader >> seen;
  EXPECT_EQ(seen, "old");
}

TEST(IoWrite, KeepsASymbolicLinkAndReplacesItsTarget) {
  const TempDir dir;
  put(dir / "target", "old");
  fs::create_symlink("target", dir / "link");
  write_file(dir / "link", "new");
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  EXPECT_EQ(get(dir / "target"), "new");
}

TEST(IoWrite, SaysWhatIsInTheWay) {
  const TempDir dir;
  const std::string inside_nothing = dir / "none/out.json";
  EXPECT_EQ(message_of([&] { write_file(inside_nothing, "x"); }),
            inside_nothing + ": cannot be written: No such file or directory");
  EXPECT_EQ(message_of([&] { write_file(dir.path(), "x"); }),
            dir.path().string() + ": is a directory, must be a file to write");
}

TEST(IoWrite, DevicesAreWrittenStraightThrough) {
  write_file("/dev/null", "x");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  EXPECT_EQ(message_of([] { write_file("/dev/full", "x"); }),
            "/dev/full: cannot be written: No space left on device");
}

TEST(IoWrite, AFullDiskLeavesTheOldFileAlone) {
  const TempDir dir;
  const std::string out = dir / "out.json";
  put(out, "old");
  rlimit old_limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit = old_limit;
  limit.rlim_cur = 10;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  const std::string message = message_of([&] { write_file(out, std::string(100, 'x')); });
  ::setrlimit(RLIMIT_FSIZE, &old_limit);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(message, out + ": cannot be written: File too large");
  EXPECT_EQ(get(out), "old");
  EXPECT_EQ(dir.entries(), 1U);
}

RoutingTrace trace_of(std::vector<std::uint16_t> ids, int num_experts) {
  const auto tokens = static_cast<std::int64_t>(ids.size());
  return make_trace(std::move(ids), tokens, 1, 1,
                    {num_experts, "a \"model\"\n", "decode", {tokens}, "made up", "none"});
}

TEST(IoWrite, TraceUsesTheSmallestType) {
  const TempDir dir;
  const auto type_of = [&](const RoutingTrace& trace) {
    write_trace(trace, dir / "t.npy");
    const std::string file = get(dir / "t.npy");
    EXPECT_EQ(file.find('\n') % 64, 63U);
    return file.substr(file.find("'descr': '") + 10, 3);
  };
  EXPECT_EQ(type_of(trace_of({0, 255}, 65536)), "|u1");
  EXPECT_EQ(type_of(trace_of({0, 256}, 65536)), "<u2");
  EXPECT_EQ(type_of(trace_of({0, 65535}, 65536)), "<u2");
  const auto masked = [](std::int32_t largest) {
    return parse_csv_trace("-1\n" + std::to_string(largest), {1, 1}, {65536, "", "", {}, "", ""},
                           "f");
  };
  EXPECT_EQ(type_of(masked(127)), "|i1");
  EXPECT_EQ(type_of(masked(128)), "<i2");
  EXPECT_EQ(type_of(masked(32767)), "<i2");
  EXPECT_EQ(type_of(masked(32768)), "<i4");
}

TEST(IoWrite, TraceSidecarKeepsEveryField) {
  const TempDir dir;
  write_trace(trace_of({0, 1, 2}, 3), dir / "t.npy");
  EXPECT_EQ(get(dir / "t.json"),
            "{\n  \"format\": \"metro-trace\",\n  \"version\": 1,\n  \"num_experts\": 3,\n"
            "  \"num_layers\": 1,\n  \"topk\": 1,\n  \"model\": \"a \\\"model\\\"\\n\",\n"
            "  \"phase\": \"decode\",\n  \"source\": \"made up\",\n  \"licence\": \"none\",\n"
            "  \"npy_sha256\": \"" +
                sha256_file(dir / "t.npy") + "\",\n  \"sequence_lengths\": [3]\n}\n");
  EXPECT_EQ(read_trace(dir / "t.npy").info().model, "a \"model\"\n");
}

TEST(IoWrite, ATornTraceIsNotTaken) {
  const TempDir dir;
  write_trace(trace_of({0, 1, 2}, 3), dir / "t.npy");
  const std::string old_array = get(dir / "t.npy");
  write_trace(trace_of({2, 1, 0}, 3), dir / "t.npy");
  EXPECT_EQ(read_trace(dir / "t.npy").id(0, 0, 0), 2);
  put(dir / "t.npy", old_array);  // as a crash between the two renames leaves it
  const std::string message = message_of([&] { read_trace(dir / "t.npy"); });
  EXPECT_TRUE(message.starts_with((dir / "t.json").string() + ": npy_sha256 is '")) << message;
  EXPECT_NE(message.find("the two were not written together"), std::string::npos) << message;
  put(dir / "t.json", R"({"num_experts": 3})");  // others write none
  EXPECT_EQ(read_trace(dir / "t.npy").id(0, 0, 0), 0);
}

TEST(IoWrite, TwoFilesAreWrittenOrNone) {
  for (const bool is_there : {false, true}) {
    const TempDir dir;
    if (is_there) put(dir / "first", "old");
    OutputFile first(dir / "first");
    OutputFile second(dir / "second");
    first.write(text_bytes("new"));
    second.write(text_bytes("new"));
    fs::create_directory(dir / "second");  // no file takes this name now
    EXPECT_EQ(message_of([&] { OutputFile::commit_both(first, second); }),
              (dir / "second").string() + ": cannot be written: Is a directory");
    if (is_there) {
      EXPECT_EQ(get(dir / "first"), "old");
    } else {
      EXPECT_FALSE(fs::exists(dir / "first"));
    }
    fs::remove(dir / "second");
    OutputFile again(dir / "second");
    again.write(text_bytes("new"));
    OutputFile one_more(dir / "first");
    OutputFile::commit_both(one_more, again);
    EXPECT_EQ(dir.entries(), 3U) << "both, and the temporary file of `second`, still open";
  }
}

TEST(IoWrite, TraceIsNotWrittenWhenItCouldNotBeRead) {
  const TempDir dir;
  const std::string out = dir / "t.npy";
  const RoutingTrace trace = make_trace({0}, 1, 1, 1, {1, "", "both", {1}, "", ""});
  EXPECT_EQ(message_of([&] { write_trace(trace, out); }),
            out + ": phase is 'both', must be 'decode', 'prefill' or 'mixed'");
  const std::string json = dir / "t.json";
  EXPECT_EQ(message_of([&] { write_trace(trace_of({0}, 1), json); }, ErrorCode::kUsage),
            json + ": must end in .npy");
  EXPECT_EQ(dir.entries(), 0U);
}

TEST(IoWrite, PlacementText) {
  Placement placement{2, 2, {{2, 2, {0, 1, 0}, {0, 1, 1}, {2, 1}, {0.1, 1, 1e-300}}}};
  placement.layers.push_back({2, 2, {1, 0}, {0, 1}, {}, {}});
  EXPECT_EQ(format_placement(placement),
            "{\n  \"format\": \"metro-placement\",\n  \"version\": 1,\n  \"num_experts\": 2,\n"
            "  \"num_gpus\": 2,\n  \"layers\": [\n    {\n"
            "      \"replica_to_expert\": [0, 1, 0],\n      \"replica_to_gpu\": [0, 1, 1],\n"
            "      \"home\": [2, 1],\n      \"shares\": [0.1, 1, 1e-300]\n    },\n    {\n"
            "      \"replica_to_expert\": [1, 0],\n      \"replica_to_gpu\": [0, 1]\n"
            "    }\n  ]\n}\n");
}

/// A reader of version 1 takes groups for GPUs, so it must refuse what has them.
TEST(IoWrite, APlacementOverGroupsIsOfVersion2) {
  const Placement placement{1, 2, {{1, 2, {0, 0}, {0, 1}, {}, {}}}, 4};
  const std::string text = format_placement(placement);
  EXPECT_TRUE(text.starts_with("{\n  \"format\": \"metro-placement\",\n  \"version\": 2,\n"));
  EXPECT_NE(text.find("\"num_gpus\": 2,\n  \"shards\": 4,\n  \"layers\": ["), std::string::npos);
  EXPECT_EQ(parse_placement(text, "f"), placement);
}

/// FIPS 180-4's examples, and lengths on both sides of where the padding needs a block more.
TEST(IoSha256, KnownAnswers) {
  const auto hash = [](std::string_view text) {
    Sha256 sha;
    sha.update(text_bytes(text));
    return sha.finish();
  };
  EXPECT_EQ(hash(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hash(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_EQ(hash(std::string(55, 'a')),
            "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
  EXPECT_EQ(hash(std::string(56, 'a')),
            "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a");
  EXPECT_EQ(hash(std::string(64, 'a')),
            "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
}

TEST(IoSha256, PiecesGiveTheSameAsTheWhole) {
  const std::string text(1000, 'x');
  Sha256 whole;
  whole.update(text_bytes(text));
  const std::string wanted = whole.finish();
  for (const std::size_t piece : {1U, 7U, 63U, 64U, 65U, 200U}) {
    Sha256 pieces;
    for (std::size_t at = 0; at < text.size(); at += piece) {
      pieces.update(text_bytes(std::string_view(text).substr(at, piece)));
    }
    EXPECT_EQ(pieces.finish(), wanted) << piece;
  }
}

TEST(IoSha256, File) {
  const TempDir dir;
  put(dir / "abc", "abc");
  EXPECT_EQ(sha256_file(dir / "abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace metro::io
