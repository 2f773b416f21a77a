// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

/// What is printed to a terminal fits its width; what goes to a file or pipe is left as it is.
namespace metro::cli {

/// Columns that a table may take on stdout: those of the terminal, at least 80; report::kAnyWidth
/// where stdout is none, or for `wide`.
int table_width(bool wide);

/// `text` with lines longer than `width` broken at blanks; what follows stands below the line's
/// last column (help: the explanation), or its indentation. Lines of tables, which have gaps of two
/// blanks and more between words, stay.
std::string fit_prose(std::string_view text, int width);

/// As fit_prose for the help of a command, whose explanations begin at a column of their own.
std::string fit_help(std::string_view text, int width);

/// Columns of the terminal on the given stream; 0 where it is none.
int terminal_width(int stream);

}  // namespace metro::cli
