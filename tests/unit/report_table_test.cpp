// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "report/table.hpp"

namespace metro::report {
namespace {

Table table() {
  Table table({"name", "what it says", "rate", "share"}, 2);
  table.may_leave_out({"no such column", "share"});
  table.add_row({"even", "one two three four", "1.50", "9"});
  table.add_row({"optimal", "five", "12.25", "10"});
  return table;
}

TEST(ReportTable, IsAsWideAsItsCells) {
  const std::string whole =
      "name     what it says         rate  share\n"
      "even     one two three four   1.50      9\n"
      "optimal  five                12.25     10\n";
  EXPECT_EQ(table().text(), whole);
  EXPECT_EQ(table().text(41), whole);
}

TEST(ReportTable, LeavesOutColumnsAndNamesThem) {
  EXPECT_EQ(table().text(40),
            "name     what it says         rate\n"
            "even     one two three four   1.50\n"
            "optimal  five                12.25\n"
            "Left out for lack of room: share.\n");
}

TEST(ReportTable, ThenBreaksLongCellsAtWords) {
  EXPECT_EQ(table().text(24),
            "name     what it    rate\n"
            "         says\n"
            "even     one two    1.50\n"
            "         three\n"
            "         four\n"
            "optimal  five      12.25\n"
            "Left out for lack of room: share.\n");
}

TEST(ReportTable, BreaksNoWordWhateverTheWidth) {
  const std::string text = table().text(1);
  EXPECT_NE(text.find("optimal"), std::string::npos);
  EXPECT_NE(text.find("three"), std::string::npos);
}

TEST(ReportTable, CountsLettersNotBytes) {
  Table table({"größe", "b"}, 1);
  table.add_row({"äöü", "1"});
  EXPECT_EQ(table.text(), "größe  b\näöü    1\n");
}

}  // namespace
}  // namespace metro::report
