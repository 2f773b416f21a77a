// SPDX-License-Identifier: Apache-2.0
// A journal gives back what was appended, whatever became of its writer.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "io/journal.hpp"
#include "unit/io_support.hpp"

namespace metro::io {
namespace {

using io_test::get;
using io_test::message_of;
using io_test::put;
using io_test::TempDir;

constexpr const char* kHeader = "{\"format\": \"metro-test\", \"version\": 1}\n";

TEST(IoJournal, KeepsEntries) {
  const TempDir folder;
  const auto path = folder / "j";
  {
    Journal journal(path, "metro-test", 1);
    EXPECT_TRUE(journal.entries().empty());
    journal.append(R"({"a": 1})");
    journal.append(R"({"a": 2})");
  }
  Journal journal(path, "metro-test", 1);
  ASSERT_EQ(journal.entries().size(), 2U);
  EXPECT_EQ(journal.entries()[1]["a"], 2);
}

TEST(IoJournal, DropsALineCutShortAndGoesOn) {
  const TempDir folder;
  const auto path = folder / "j";
  const std::string whole = std::string(kHeader) + "{\"a\": 1}\n{\"a\": 2}\n";
  for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
    put(path, whole.substr(0, cut));
    std::size_t kept = 0;
    {
      Journal journal(path, "metro-test", 1);
      kept = journal.entries().size();
      journal.append(R"({"b": 3})");
    }
    const std::string text = get(path);
    EXPECT_TRUE(text.starts_with(kHeader)) << cut;
    EXPECT_EQ(parse_journal(text, "metro-test", 1, "f").entries.size(), kept + 1) << cut;
    EXPECT_EQ(kept, cut < whole.size() - 9 ? 0U : cut < whole.size() ? 1U : 2U) << cut;
  }
}

TEST(IoJournal, OneWriterAtATime) {
  const TempDir folder;
  Journal first(folder / "j", "metro-test", 1);
  const std::string message = message_of([&] { Journal second(folder / "j", "metro-test", 1); });
  EXPECT_NE(message.find("is being written by process " + std::to_string(::getpid())),
            std::string::npos)
      << message;
}

TEST(IoJournal, AChangedByteIsNotTakenForAnEntry) {
  const TempDir folder;
  const auto path = folder / "j";
  {
    Journal journal(path, "metro-test", 2);
    journal.append(R"({"point":"a","row":"{\"tpot\":1.5}"})");
    journal.append(R"({"point":"b","row":"{\"tpot\":2.5}"})");
  }
  const std::string whole = get(path);
  const auto entries = parse_journal(whole, "metro-test", 2, "f").entries;
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[0].dump(), R"({"point":"a","row":"{\"tpot\":1.5}"})");
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ 1 << bit);
      std::vector<nlohmann::json> read;
      try {
        read = parse_journal(changed, "metro-test", 2, "f").entries;
      } catch (const Error&) {
        continue;
      }
      ASSERT_LE(read.size(), entries.size());  // the last newline, or a blank where JSON takes any
      EXPECT_TRUE(std::ranges::equal(read, std::span(entries).first(read.size()))) << changed;
    }
  }
}

TEST(IoJournal, NamesTheLineThatChanged) {
  const TempDir folder;
  const auto path = folder / "j";
  Journal(path, "metro-test", 2).append(R"({"a":1})");
  const std::string text = get(path);
  EXPECT_EQ(text,
            "{\"format\": \"metro-test\", \"version\": 2}\n"
            "{\"sha256\":\"015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862\","
            "\"a\":1}\n");
  put(path, text.substr(0, text.size() - 3) + "2}\n");
  const std::string wanted =
      path.string() +
      ": line 2: is not as it was written (its sha256 differs), remove the line to run it again";
  EXPECT_EQ(message_of([&] { Journal journal(path, "metro-test", 2); }), wanted);
  put(path, text.substr(0, text.find("{\"sha")) + "{\"a\":1}\n");
  EXPECT_EQ(message_of([&] { Journal journal(path, "metro-test", 2); }), wanted);
}

TEST(IoJournal, OldJournalsHaveNoDigests) {
  const TempDir folder;
  const auto path = folder / "j";
  put(path, std::string(kHeader) + "{\"a\": 1}\n");
  Journal(path, "metro-test", 2).append(R"({"a":2})");
  const Journal journal(path, "metro-test", 2);
  ASSERT_EQ(journal.entries().size(), 2U);
  EXPECT_EQ(journal.entries()[1]["a"], 2);
}

TEST(IoJournal, RefusesWhatIsNoJournal) {
  const TempDir folder;
  const auto path = folder / "j";
  const auto message = [&](const std::string& text) {
    put(path, text);
    const std::string found = message_of([&] { Journal journal(path, "metro-test", 1); });
    EXPECT_EQ(get(path), text) << "left as it was";
    return found.substr(found.find(": ") + 2);
  };
  EXPECT_EQ(message("hello\n"), "line 1: line 1, column 1: malformed JSON, unexpected 'h'");
  EXPECT_EQ(message("a letter"), "is no journal of this kind");
  EXPECT_EQ(message("[]\n"), "line 1: the document is an array, must be an object");
  EXPECT_EQ(message("{\"format\": \"metro-result\", \"version\": 1}\n"),
            "line 1: format is 'metro-result', must be 'metro-test'");
  EXPECT_EQ(message("{\"format\": \"metro-test\", \"version\": 2}\n"),
            "line 1: version is 2, this build reads metro-test up to version 1");
  EXPECT_EQ(message(std::string(kHeader) + "{\n{}\n"),
            "line 2: line 1, column 2: the JSON ends too early");
}

}  // namespace
}  // namespace metro::io
