// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "io/parse.hpp"
#include "unit/io_support.hpp"

namespace metro::io {
namespace {

using io_test::message_of;
using io_test::packed;
using io_test::put;
using io_test::TempDir;

TraceInfo experts(int num_experts) { return {num_experts, "", "decode", {}, "", ""}; }

std::vector<std::int32_t> all_ids(const RoutingTrace& trace) {
  std::vector<std::int32_t> ids;
  for (std::int64_t token = 0; token < trace.num_tokens(); ++token) {
    for (int layer = 0; layer < trace.num_layers(); ++layer) {
      for (int k = 0; k < trace.topk(); ++k) ids.push_back(trace.id(token, layer, k));
    }
  }
  return ids;
}

TEST(IoRaw, BothOrdersGiveTheSameTrace) {
  const TempDir dir;
  put(dir / "tokens.bin", packed<std::int32_t>({0, 1, 2, 3, 4, 5, 6, -1}));
  put(dir / "layers.bin", packed<std::int32_t>({0, 1, 4, 5, 2, 3, 6, -1}));
  const std::vector<std::int32_t> wanted = {0, 1, 2, 3, 4, 5, 6, -1};
  using Order = RawLayout::Order;
  const RoutingTrace tokens =
      read_raw_trace(dir / "tokens.bin", {"<i4", Order::kTokensFirst, 2, 2}, experts(8));
  const RoutingTrace layers =
      read_raw_trace(dir / "layers.bin", {"<i4", Order::kLayersFirst, 2, 2}, experts(8));
  EXPECT_EQ(all_ids(tokens), wanted);
  EXPECT_EQ(all_ids(layers), wanted);
  EXPECT_EQ(layers.info().sequence_lengths, (std::vector<std::int64_t>{2}));
}

TEST(IoRaw, Malformed) {
  const auto raw = [](std::string_view bytes, const RawLayout& layout, TraceInfo info) {
    (void)parse_raw_trace(nullptr, text_bytes(bytes), layout, std::move(info), "f");
  };
  const RawLayout two_by_two{"|u1", RawLayout::Order::kTokensFirst, 2, 2};
  EXPECT_EQ(message_of([&] { raw("12345", two_by_two, experts(256)); }),
            "f: has 5 bytes, must be a multiple of 2 layers x 2 ids x 1 bytes");
  EXPECT_EQ(message_of([&] { raw("123", two_by_two, experts(256)); }),
            "f: has 3 bytes, must be a multiple of 2 layers x 2 ids x 1 bytes");
  EXPECT_EQ(message_of([&] { raw("\1\1\1\1\1\1\5\1", two_by_two, experts(5)); }),
            "f: [1][1][0] is 5, must be an expert 0..4 or -1 (masked)");
  const RawLayout huge{"<i8", RawLayout::Order::kTokensFirst, 2147483647, 2147483647};
  EXPECT_EQ(message_of([&] { raw("1234", huge, experts(256)); }),
            "f: has 4 bytes, must be a multiple of 2147483647 layers x 2147483647 ids x 8 bytes");
  EXPECT_EQ(message_of([&] { raw("1234", two_by_two, experts(0)); }),
            "f: num_experts is 0, must be 1..65536");
  TraceInfo sequences = experts(256);
  sequences.sequence_lengths = {2};
  EXPECT_EQ(message_of([&] { raw("1234", two_by_two, sequences); }),
            "f: sequence_lengths[0] is 2, must be 1..1 (the trace has 1 tokens)");
  EXPECT_EQ(message_of([&] { raw("1", {"<f4", {}, 1, 1}, experts(9)); }, ErrorCode::kUsage),
            "dtype is '<f4', must be |u1, |i1, <u2, <i2, <u4, <i4, <u8 or <i8");
  EXPECT_EQ(message_of([&] { raw("1", {"<i4", {}, 0, 1}, experts(9)); }, ErrorCode::kUsage),
            "0 layers and topk 1, each must be at least 1");
}

TEST(IoCsv, OneRowForEachId) {
  const RoutingTrace trace = parse_csv_trace(
      "\xef\xbb\xbftoken,layer,k,expert\r\n"
      "1,0,0,4\r\n0,0,1,1\r\n0, 0, 0, 0\r\n1,0,1,-1",
      {}, experts(8), "f");
  EXPECT_EQ(trace.num_tokens(), 2);
  EXPECT_EQ(trace.num_layers(), 1);
  EXPECT_EQ(trace.topk(), 2);
  EXPECT_EQ(all_ids(trace), (std::vector<std::int32_t>{0, 1, 4, -1}));
}

TEST(IoCsv, OneRowForEachToken) {
  const TempDir dir;
  put(dir / "f.csv", "0,1,2,3\n4,5,6,7\n");
  const RoutingTrace trace = read_csv_trace(dir / "f.csv", {2, 2}, experts(8));
  EXPECT_EQ(trace.num_tokens(), 2);
  EXPECT_EQ(all_ids(trace), (std::vector<std::int32_t>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(IoCsv, Malformed) {
  const struct {
    std::string text;
    CsvLayout layout;
    std::string message;
  } cases[] = {
      {"", {1, 1}, "f: is empty"},
      {"1,2\n",
       {},
       "f: line 1: is not the header token,layer,k,expert; rows of layers x topk ids need both "
       "numbers given"},
      {"1,2\n3\n", {1, 2}, "f: line 2: has 1 fields, must have 2 (1 layers x 2 ids)"},
      {"1,2\n\n3,4\n", {1, 2}, "f: line 2: has 1 fields, must have 2 (1 layers x 2 ids)"},
      {"1,2\n3,x\n", {1, 2}, "f: line 2, column 3: expert is 'x', must be an integer -1..7"},
      {"1,2\n3,\"4\"\n",
       {1, 2},
       "f: line 2, column 3: expert is '\"4\"', must be an integer -1..7"},
      {"1,8\n", {1, 2}, "f: line 1, column 3: expert is '8', must be an integer -1..7"},
      {"1,99999999999999999999\n",
       {1, 2},
       "f: line 1, column 3: expert is '99999999999999999999', must be an integer -1..7"},
      {"1,2.0\n", {1, 2}, "f: line 1, column 3: expert is '2.0', must be an integer -1..7"},
      {"1,\n", {1, 2}, "f: line 1, column 3: expert is '', must be an integer -1..7"},
      {"1,\x1b[2J\n",
       {1, 2},
       "f: line 1, column 3: expert is '\\x1b[2J', must be an integer -1..7"},
      {"token,layer,k,expert\n",
       {},
       "f: has 0 rows, must have one for each of 1 tokens x 1 layers x 1"},
      {"token,layer,k,expert\n0,0,0\n",
       {},
       "f: line 2: too few fields, must be token,layer,k,expert"},
      {"token,layer,k,expert\n0,0,0,1,2\n",
       {},
       "f: line 2: too many fields, must be token,layer,k,expert"},
      {"token,layer,k,expert\n0,0,0,1\n0,0,0,1\n",
       {},
       "f: line 3: token 0, layer 0, k 0 stands twice"},
      {"token,layer,k,expert\n0,0,0,1\n2,0,0,1\n",
       {},
       "f: has 2 rows, must have one for each of 3 tokens x 1 layers x 1"},
      {"token,layer,k,expert\n2147483646,2147483646,2147483646,1\n",
       {},
       "f: has 1 rows, must have one for each of 2147483647 tokens x 2147483647 layers x "
       "2147483647"},
      {"token,layer,k,expert\n-1,0,0,1\n",
       {},
       "f: line 2, column 1: token is '-1', must be an integer 0..2147483646"},
      {"token,layer,k,expert\n0,2,0,1\n",
       {2, 0},
       "f: line 2, column 3: layer is '2', must be an integer 0..1"},
      {"token,layer,k,expert\n0,0,0,1\n",
       {0, 2},
       "f: has 1 rows, must have one for each of 1 tokens x 1 layers x 2"},
  };
  for (const auto& [text, layout, message] : cases) {
    EXPECT_EQ(message_of([&] { (void)parse_csv_trace(text, layout, experts(8), "f"); }), message);
  }
  EXPECT_EQ(
      message_of([&] { (void)parse_csv_trace("1", {1, 1}, experts(0), "f"); }, ErrorCode::kUsage),
      "num_experts is 0, must be 1..65536");
}

}  // namespace
}  // namespace metro::io
