// SPDX-License-Identifier: Apache-2.0
// Request traces: what each format says, and the exact line that damage gives.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "io/requests_file.hpp"
#include "io/timestamp.hpp"
#include "metro/io.hpp"
#include "unit/io_support.hpp"

namespace metro::io {
namespace {

using io_test::message_of;

const std::vector<Request> kThree = {{0, 374, 44}, {4.25, 396, 109}, {10, 12, 1}};

void expect_three(const std::string& text) {
  const std::vector<Request> requests = parse_requests(text, "f");
  ASSERT_EQ(requests.size(), kThree.size()) << text;
  for (std::size_t i = 0; i < kThree.size(); ++i) {
    EXPECT_NEAR(requests[i].arrival_s, kThree[i].arrival_s, 1e-9) << text;
    EXPECT_EQ(requests[i].prompt_tokens, kThree[i].prompt_tokens) << text;
    EXPECT_EQ(requests[i].output_tokens, kThree[i].output_tokens) << text;
  }
}

TEST(IoRequests, EveryFormatSaysTheSame) {
  expect_three(
      "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
      "2023-11-16 18:15:46.6805900,374,44\r\n"
      "2023-11-16 18:15:50.9305900,396,109\r\n"
      "2023-11-16 18:15:56.6805900,12,1\r\n");
  expect_three(
      "\xef\xbb\xbfTimestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
      "5,ChatGPT,374,44,418,Conversation log\n"
      "9.25,\"GPT-4, turbo\",396,109,505,API log\n"
      "15.0,ChatGPT,12,1,13,API log\n");
  expect_three(
      "arrived_at,num_prefill_tokens,num_decode_tokens\n"
      "0.5,374,44\n4.75,396,109\n10.5,12,1");
  expect_three(
      "{\"timestamp\": 1000, \"input_length\": 374, \"output_length\": 44, \"hash_ids\": [1, 2]}\n"
      "{\"timestamp\": 5250, \"input_length\": 396, \"output_length\": 109, \"hash_ids\": []}\n"
      "\n"
      "{\"timestamp\": 11000.0, \"input_length\": 12, \"output_length\": 1}\n");
}

TEST(IoRequests, ColumnsMayStandAnywhereAndRowsInAnyOrder) {
  expect_three(
      "id, num_decode_tokens ,arrived_at,num_prefill_tokens\n"
      "2,1,10,12\n0,44,0,374\n1,109,4.25,396\n");
}

TEST(IoRequests, Timestamps) {
  const std::int64_t base = *parse_timestamp("2023-11-16 18:15:46");
  EXPECT_EQ(base, 1'700'158'546'000'000'000);
  EXPECT_EQ(parse_timestamp("2023-11-16T18:15:46.5"), base + 500'000'000);
  EXPECT_EQ(parse_timestamp("2023-11-16 18:15:46.000000001Z"), base + 1);
  EXPECT_EQ(parse_timestamp("2023-11-16 19:15:46+01:00"), base);
  EXPECT_EQ(parse_timestamp("2023-11-16 12:45:46-0530"), base);
  EXPECT_EQ(parse_timestamp("2024-02-29 00:00:00"), 1'709'164'800'000'000'000);
  for (const char* bad :
       {"", "2023-11-16", "2023-02-29 00:00:00", "2023-11-16 24:00:00", "2023-11-16 18:15:46.",
        "2023-11-16 18:15:46.1234567890", "2023-11-16 18:15:46+", "2023-11-16 18:15:46 x",
        "1969-12-31 23:59:59", "+023-11-16 18:15:46", "2023-11-16 18:15:4"}) {
    EXPECT_EQ(parse_timestamp(bad), std::nullopt) << bad;
  }
}

TEST(IoRequests, DamageIsNamed) {
  const std::string vidur = "arrived_at,num_prefill_tokens,num_decode_tokens\n";
  const std::string azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
  const std::string wanted =
      "must be Azure, BurstGPT or vidur CSV (by its header) or Mooncake JSON lines";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {" \n", "f: is empty"},
      {"a,b,c\n", "f: line 1: the header is 'a,b,c', " + wanted},
      {"[1]", "f: line 1: the header is '[1]', " + wanted},
      {vidur, "f: has no requests, must have one at least"},
      {vidur + "1,2\n", "f: line 2: has 2 fields, must have 3 as the header has"},
      {vidur + "1,2,3\n\n1,2,3\n", "f: line 3: has 1 fields, must have 3 as the header has"},
      {vidur + "1,2,\"3\n", "f: line 2: a quote is not closed"},
      {vidur + "1,2,-3\n",
       "f: line 2: num_decode_tokens is '-3', must be an integer 0..1073741824"},
      {vidur + "1,2.5,3\n",
       "f: line 2: num_prefill_tokens is '2.5', must be an integer 0..1073741824"},
      {vidur + "1,9999999999,3\n",
       "f: line 2: num_prefill_tokens is '9999999999', must be an integer 0..1073741824"},
      {vidur + "nan,2,3\n", "f: line 2: arrived_at is 'nan', must be seconds 0..1e+09"},
      {vidur + "-1,2,3\n", "f: line 2: arrived_at is '-1', must be seconds 0..1e+09"},
      {azure + "yesterday,2,3\n",
       "f: line 2: TIMESTAMP is 'yesterday', must be a time such as 2023-11-16 18:15:46.6805900"},
      {azure + "1971-01-01 00:00:00,2,3\n2150-01-01 00:00:00,2,3\n",
       "f: line 3: TIMESTAMP is '2150-01-01 00:00:00', more than 1e+09 s from line 2"},
      {"{\"timestamp\": 0, \"input_length\": 1}\n", "f: line 1: output_length is missing"},
      {"{\"timestamp\": 0, \"input_length\": 1, \"output_length\": 1}\n{\"timestamp\": \"x\"}\n",
       "f: line 2: timestamp is 'x', must be a number"},
      {"{\"timestamp\": 0, \"input_length\": 1.5, \"output_length\": 1}",
       "f: line 1: input_length is 1.5, must be an integer 0..1073741824"},
      {"{\"timestamp\": -1, \"input_length\": 1, \"output_length\": 1}",
       "f: line 1: timestamp is -1, must be milliseconds 0..1e+12"},
      {"{\"timestamp\": 0,\n", "f: line 1: line 1, column 17: the JSON ends too early"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_EQ(message_of([&, &t = text] { (void)parse_requests(t, "f"); }), message);
  }
}

TEST(IoRequests, AzureTracesOfTheProject) {
  const auto folder = std::filesystem::path(METRO_SOURCE_DIR) / "../shared/data/requests";
  if (!std::filesystem::is_directory(folder)) GTEST_SKIP() << "no ../shared/data/requests";
  const std::vector<Request> chat = read_requests(folder / "AzureLLMInferenceTrace_conv.csv");
  EXPECT_EQ(chat.size(), 19366U);
  EXPECT_EQ(chat.front(), (Request{0, 374, 44}));
  EXPECT_NEAR(chat.back().arrival_s / 60, 58, 1);
  EXPECT_EQ(read_requests(folder / "AzureLLMInferenceTrace_code.csv").size(), 8819U);
}

}  // namespace
}  // namespace metro::io
