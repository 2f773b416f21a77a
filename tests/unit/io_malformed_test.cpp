// SPDX-License-Identifier: Apache-2.0
// Every kind of damage to every file, and the exact line that it gives.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "io/parse.hpp"
#include "unit/io_support.hpp"

namespace metro::io {
namespace {

using io_test::message_of;
using io_test::npy;
using io_test::npy_of;
using io_test::packed;
using namespace std::string_literals;

struct Case {
  std::string bytes;
  std::string message;
};

std::string with_version(char major, char minor) {
  std::string file = npy("|u1", "(1, 1)", "\0"s);
  file[6] = major;
  file[7] = minor;
  return file;
}

constexpr const char* kTypes = "|u1, |i1, <u2, <i2, <u4, <i4, <u8 or <i8";

TEST(IoMalformed, TopkNpy) {
  const std::string wanted = std::string(", must be ") + kTypes;
  const Case cases[] = {
      {"\x93NUMPY"s, "f: npy header is cut short"},
      {"\x93NUMPY\x02\x00\x10\x00"s, "f: npy header is cut short"},
      {"\x93NUMPY\x01\x00\xff\x00{}"s,
       "f: npy header says it has 255 bytes, the file has 2 after its length"},
      {"\x93NUMPY\x02\x00\xff\xff\xff\xff{}"s,
       "f: npy header says it has 4294967295 bytes, the file has 2 after its length"},
      {with_version(4, 0), "f: npy version is 4.0, must be 1.0, 2.0 or 3.0"},
      {with_version(1, 1), "f: npy version is 1.1, must be 1.0, 2.0 or 3.0"},
      {npy_of("", ""), "f: npy header ends early, must have '{'"},
      {npy_of("{", ""), "f: npy header ends early, must have a key in quotes"},
      {npy_of("[]", ""), "f: npy header has '[' at character 0, must have '{'"},
      {npy_of("{'descr", ""), "f: npy header ends inside a string"},
      {npy_of("{'descr' '|u1'}", ""), "f: npy header has ''' at character 9, must have ':'"},
      {npy_of("{}", ""), "f: npy header has no key 'descr'"},
      {npy_of("{'descr': '|u1', 'shape': (1, 1)}", "\0"s),
       "f: npy header has no key 'fortran_order'"},
      {npy_of("{'descr': '|u1', 'descr': '|u1'}", ""), "f: npy header has the key 'descr' twice"},
      {npy_of("{'des\xff\ncr': 1}", ""),
       "f: npy header has the key 'des\\xff\\x0acr', must have descr, fortran_order and shape "
       "alone"},
      {npy_of("{'fortran_order': 0}", ""),
       "f: npy header has '0' at character 18, must have True or False"},
      {npy_of("{'shape': (1)}", ""),
       "f: npy header has ')' at character 12, must have ',' (a tuple)"},
      {npy_of("{'shape': (-1, 2)}", ""),
       "f: npy header has '-' at character 11, must have a dimension"},
      {npy_of("{'shape': ((((", ""),
       "f: npy header has '(' at character 11, must have a dimension"},
      {npy_of("{'shape': (1 2)}", ""),
       "f: npy header has '2' at character 13, must have ',' (a tuple)"},
      {npy_of("{'shape': (9223372036854775808,)}", ""),
       "f: shape has a dimension above 9223372036854775807, the most there can be"},
      {npy_of(
           "{'shape': (" +
               [] {
                 std::string dims;
                 for (int i = 0; i < 33; ++i) dims += "1,";
                 return dims;
               }() +
               ")}",
           ""),
       "f: shape has over 32 dimensions"},
      {npy_of("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1)} x", "\0"s),
       "f: npy header has 'x' at character 58, must have nothing after '}'"},
      {npy_of("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,)}", ""),
       "f: dtype is structured, must be a plain number type such as |u1 or <i4"},
      {npy(">u2", "(1, 1)", "\0\0"s), "f: dtype is '>u2' (big-endian), must be little-endian"},
      {npy("|O", "(1, 1)", "\0"s), "f: dtype is '|O'" + wanted + " (<f4 or <f8 for loads)"},
      {npy("<i3", "(1, 1)", "\0\0\0"s), "f: dtype is '<i3'" + wanted + " (<f4 or <f8 for loads)"},
      {npy("<f4", "(1, 1)", "\0\0\0\0"s), "f: dtype is '<f4'" + wanted},
      {npy_of("{'descr': '|u1', 'fortran_order': True, 'shape': (1, 1)}", "\0"s),
       "f: fortran_order is True, must be False (save numpy.ascontiguousarray of it)"},
      {npy("<u8", "(4294967296, 4294967296)", ""),
       "f: shape (4294967296, 4294967296) is too large to address"},
      {npy("|u1", "(3, 2)", "12345"), "f: has 5 bytes of data, shape (3, 2) of |u1 needs 6"},
      {npy("<u2", "(1, 2)", "12345"), "f: has 5 bytes of data, shape (1, 2) of <u2 needs 4"},
      {npy("|u1", "(2,)", "12"), "f: shape is (2,), must be (tokens, topk)"},
      {npy("|u1", "()", "1"), "f: shape is (), must be (tokens, topk)"},
      {npy("|u1", "(2, 0)", ""),
       "f: shape is (2, 0), must have at most 2147483647 tokens and a topk of 1..65536"},
      {npy("|u1", "(4294967296, 0)", ""),
       "f: shape is (4294967296, 0), must have at most 2147483647 tokens and a topk of 1..65536"},
      {npy("|u1", "(2, 2)", "\x00\x07\x08\x00"s),
       "f: [1][0] is 8, must be an expert 0..7 or -1 (masked)"},
      {npy("<i4", "(1, 2)", packed<std::int32_t>({-1, -2})),
       "f: [0][1] is -2, must be an expert 0..7 or -1 (masked)"},
      {npy("<u8", "(1, 1)", packed<std::uint64_t>({~std::uint64_t{0}})),
       "f: [0][0] is 18446744073709551615, must be an expert 0..7 or -1 (masked)"},
      {npy("<i8", "(1, 1)", packed<std::int64_t>({std::int64_t{1} << 32})),
       "f: [0][0] is 4294967296, must be an expert 0..7 or -1 (masked)"},
  };
  for (const auto& [bytes, message] : cases) {
    EXPECT_EQ(message_of([&] { (void)parse_topk(text_bytes(bytes), 8, "f"); }), message);
  }
}

TEST(IoMalformed, TopkJson) {
  const std::string deep(100000, '[');
  const Case cases[] = {
      {"hello", "f: is neither a .npy file nor JSON"},
      {" \n", "f: is neither a .npy file nor JSON"},
      {"PK\x03\x04", "f: is neither a .npy file nor JSON"},
      {"[", "f: line 1, column 2: the JSON ends too early"},
      {"[[0, 1],\n [2, }]", "f: line 2, column 6: malformed JSON, unexpected '}'"},
      {"[[0, 1]] x", "f: line 1, column 10: malformed JSON, unexpected 'x'"},
      {"[[NaN]]", "f: line 1, column 3: malformed JSON, unexpected 'N'"},
      {"[[01]]", "f: line 1, column 4: malformed JSON, unexpected '1'"},
      {"[[\"\xff\"]]",
       "f: line 1, column 4: malformed JSON string (bad escape, control character or UTF-8)"},
      {"[[1e999]]", "f: line 1, column 3: the number '1e999' is beyond a double"},
      {deep, "f: line 1, column 17: JSON is nested more than 16 deep"},
      {"{\"a\": 1, \"a\": 2}", "f: line 1, column 12: the key 'a' stands twice in one object"},
      {"{}", "f: the document is an object, must be an array"},
      {"[1]", "f: [0] is 1, must be an array"},
      {"[[1, 2], [3]]", "f: [1] has 1 entries, must have 2 as [0] has"},
      {"[[]]", "f: shape is (1, 0), must have at most 2147483647 tokens and a topk of 1..65536"},
      {"[[1, 8]]", "f: [0][1] is 8, must be an expert 0..7 or -1 (masked)"},
      {"[[-2]]", "f: [0][0] is -2, must be an expert 0..7 or -1 (masked)"},
      {"[[3.0]]", "f: [0][0] is 3.0, must be an expert 0..7 or -1 (masked)"},
      {"[[\"3\"]]", "f: [0][0] is '3', must be an expert 0..7 or -1 (masked)"},
      {"[[null]]", "f: [0][0] is null, must be an expert 0..7 or -1 (masked)"},
      {"[[true]]", "f: [0][0] is true, must be an expert 0..7 or -1 (masked)"},
      {"[[18446744073709551615]]",
       "f: [0][0] is 18446744073709551615, must be an expert 0..7 or -1 (masked)"},
      {"[[9223372036854775808]]",
       "f: [0][0] is 9223372036854775808, must be an expert 0..7 or -1 (masked)"},
  };
  for (const auto& [bytes, message] : cases) {
    EXPECT_EQ(message_of([&] { (void)parse_topk(text_bytes(bytes), 8, "f"); }), message);
  }
}

TEST(IoMalformed, Loads) {
  const Case cases[] = {
      {npy("<f8", "(0, 4)", ""),
       "f: shape is (0, 4), must have 1..2147483647 layers and 1..65536 experts"},
      {npy("|u1", "(1, 65537)", std::string(65537, '\0')),
       "f: shape is (1, 65537), must have 1..2147483647 layers and 1..65536 experts"},
      {npy("<f2", "(1, 1)", "\0\0"s),
       std::string("f: dtype is '<f2', must be ") + kTypes + " (<f4 or <f8 for loads)"},
      {npy("<f8", "(4,)", packed<double>({1, 2, 3, 4})),
       "f: shape is (4,), must be (layers, experts)"},
      {npy("<f8", "(2, 2)", packed<double>({1, 2, 3, -4})),
       "f: loads[1][1] is -4, must be finite and >= 0"},
      {npy("<f4", "(1, 2)", packed<float>({1, std::numeric_limits<float>::quiet_NaN()})),
       "f: loads[0][1] is nan, must be finite and >= 0"},
      {npy("<i8", "(1, 1)", packed<std::int64_t>({-7})),
       "f: loads[0][0] is -7, must be finite and >= 0"},
      {"[]", "f: the document is an array, must be an object"},
      {"{}", "f: loads is missing"},
      {"{\"loads\": 3}", "f: loads is 3, must be an array"},
      {"{\"loads\": []}", "f: loads is empty, must have a row for each layer"},
      {"{\"loads\": [[]]}", "f: loads[0] has 0 entries, must have 1..65536"},
      {"{\"loads\": [[1, 2], [3]]}", "f: loads[1] has 1 entries, must have 2 as loads[0] has"},
      {"{\"loads\": [[1, \"a\\nb\"]]}", "f: loads[0][1] is 'a\\x0ab', must be a number"},
      {"{\"loads\": [[1], [-0.5]]}", "f: loads[1][0] is -0.5, must be finite and >= 0"},
      {"{\"loads\": [[1]], \"format\": \"metro-placement\"}",
       "f: format is 'metro-placement', must be 'metro-loads'"},
      {"{\"loads\": [[1]], \"version\": 2}",
       "f: version is 2, this build reads metro-loads up to version 1"},
  };
  for (const auto& [bytes, message] : cases) {
    EXPECT_EQ(message_of([&] { (void)parse_loads(text_bytes(bytes), "f"); }), message);
  }
}

std::string placement(std::string_view fields) {
  return "{\"format\": \"metro-placement\", \"version\": 1, " + std::string(fields) + "}";
}

std::string layer(std::string_view fields) {
  return placement("\"num_experts\": 2, \"num_gpus\": 2, \"layers\": [{" + std::string(fields) +
                   "}]");
}

TEST(IoMalformed, Placement) {
  const Case cases[] = {
      {"[]", "f: the document is an array, must be an object"},
      {"{}", "f: format is missing"},
      {"{\"format\": \"metro-result\", \"version\": 1}",
       "f: format is 'metro-result', must be 'metro-placement'"},
      {"{\"format\": 1}", "f: format is 1, must be 'metro-placement'"},
      {"{\"format\": \"metro-placement\"}", "f: version is missing"},
      {"{\"format\": \"metro-placement\", \"version\": 3}",
       "f: version is 3, this build reads metro-placement up to version 2"},
      {"{\"format\": \"metro-placement\", \"version\": 2, \"num_experts\": 2, \"num_gpus\": 2}",
       "f: shards is missing"},
      {"{\"format\": \"metro-placement\", \"version\": 2, \"num_experts\": 2, \"num_gpus\": 2, "
       "\"shards\": 0}",
       "f: shards is 0, must be an integer 1..65536"},
      {"{\"format\": \"metro-placement\", \"version\": 2, \"num_experts\": 1, \"num_gpus\": 1024, "
       "\"shards\": 65, \"layers\": [{\"replica_to_expert\": [0], \"replica_to_gpu\": [0]}]}",
       "f: shards is 65, must be 1..64 for 1024 groups: at most 65536 GPUs are supported"},
      {placement("\"num_experts\": 2, \"num_gpus\": 2, \"shards\": 2"),
       "f: shards is 2, but version 1 has none: must be left out, or version 2"},
      {"{\"format\": \"metro-placement\", \"version\": 0}",
       "f: version is 0, must be an integer 1..9223372036854775807"},
      {placement("\"x\": 0"), "f: num_experts is missing"},
      {placement("\"num_experts\": 0"), "f: num_experts is 0, must be an integer 1..65536"},
      {placement("\"num_experts\": 1e2"), "f: num_experts is 100.0, must be an integer 1..65536"},
      {placement("\"num_experts\": 18446744073709551615"),
       "f: num_experts is 18446744073709551615, must be an integer 1..65536"},
      {placement("\"num_experts\": 2, \"num_gpus\": 65537"),
       "f: num_gpus is 65537, must be an integer 1..65536"},
      {placement("\"num_experts\": 2, \"num_gpus\": 2"), "f: layers is missing"},
      {placement("\"num_experts\": 2, \"num_gpus\": 2, \"layers\": []"),
       "f: layers is empty, must have at least one layer"},
      {placement("\"num_experts\": 2, \"num_gpus\": 2, \"layers\": [7]"),
       "f: layers[0] is 7, must be an object"},
      {layer(""), "f: layers[0].replica_to_expert is missing"},
      {layer("\"replica_to_expert\": [0, 1, 2]"),
       "f: layers[0].replica_to_gpu is missing, it may be left out only when the GPUs share the "
       "slots equally (3 slots, 2 GPUs)"},
      {layer("\"replica_to_expert\": []"),
       "f: layers[0].replica_to_expert has no replica of expert 0, every expert needs one"},
      {layer("\"replica_to_expert\": [0, 0]"),
       "f: layers[0].replica_to_expert has no replica of expert 1, every expert needs one"},
      {layer("\"replica_to_expert\": [0, 2]"),
       "f: layers[0].replica_to_expert[1] is 2, must be 0..1"},
      {layer("\"replica_to_expert\": [0, -1]"),
       "f: layers[0].replica_to_expert[1] is -1, must be an integer 0..2147483647"},
      {layer("\"replica_to_expert\": [0, 1.5]"),
       "f: layers[0].replica_to_expert[1] is 1.5, must be an integer 0..2147483647"},
      {layer("\"replica_to_expert\": [0, 1], \"replica_to_gpu\": [0]"),
       "f: layers[0].replica_to_gpu has 1 entries, replica_to_expert has 2"},
      {layer("\"replica_to_expert\": [0, 1], \"replica_to_gpu\": [0, 2]"),
       "f: layers[0].replica_to_gpu[1] is 2, must be 0..1"},
      {layer("\"replica_to_expert\": [0, 1], \"home\": []"),
       "f: layers[0].home is empty, must have one slot per expert or be left out"},
      {layer("\"replica_to_expert\": [0, 1], \"home\": [1, 1]"),
       "f: layers[0].home[0] is slot 1, which holds expert 1, not 0"},
      {layer("\"replica_to_expert\": [0, 1], \"shares\": [1]"),
       "f: layers[0].shares has 1 entries, must have one per slot (2)"},
      {layer("\"replica_to_expert\": [0, 1], \"shares\": []"),
       "f: layers[0].shares is empty, must have one weight per slot or be left out"},
      {layer("\"replica_to_expert\": [0, 1], \"shares\": [1, 0]"),
       "f: layers[0].shares of expert 1 sum to 0, must be finite and above 0"},
      {layer("\"replica_to_expert\": [0, 1], \"shares\": [1, null]"),
       "f: layers[0].shares[1] is null, must be a number"},
  };
  for (const auto& [bytes, message] : cases) {
    EXPECT_EQ(message_of([&] { (void)parse_placement(bytes, "f"); }), message);
  }
}

std::string trace_message(const std::string& array, const std::string& sidecar) {
  return message_of([&] {
    (void)parse_trace(nullptr, text_bytes(array), "t.npy",
                      [&] { return NamedText{sidecar, "t.json"}; });
  });
}

TEST(IoMalformed, TraceSidecar) {
  const std::string array = npy("|u1", "(3, 2, 2)", std::string(12, '\1'));
  const std::string base = "\"num_experts\": 4, ";
  const Case cases[] = {
      {"[]", "t.json: the document is an array, must be an object"},
      {"{}", "t.json: num_experts is missing"},
      {"{\"num_experts\": 0}", "t.json: num_experts is 0, must be an integer 1..65536"},
      {"{\"num_experts\": \"4\"}", "t.json: num_experts is '4', must be an integer 1..65536"},
      {"{" + base + "\"phase\": \"both\"}",
       "t.json: phase is 'both', must be 'decode', 'prefill' or 'mixed'"},
      {"{" + base + "\"phase\": 1}", "t.json: phase is 1, must be a string"},
      {"{" + base + "\"model\": null}", "t.json: model is null, must be a string"},
      {"{" + base + "\"topk\": 3}", "t.json: topk is 3, must be 2 as in t.npy"},
      {"{" + base + "\"num_layers\": 3}", "t.json: num_layers is 3, must be 2 as in t.npy"},
      {"{" + base + "\"sequence_lengths\": []}",
       "t.json: sequence_lengths is an array, must be the length of each sequence"},
      {"{" + base + "\"sequence_lengths\": [1, 0]}",
       "t.json: sequence_lengths[1] is 0, must be an integer 1..3"},
      {"{" + base + "\"sequence_lengths\": [1, 3]}",
       "t.json: sequence_lengths[1] is 3, must be 1..2 (the trace has 3 tokens)"},
      {"{" + base + "\"sequence_lengths\": [1, 1]}",
       "t.json: sequence_lengths sum to 2, the trace has 3 tokens"},
      {"{" + base + "\"format\": \"metro-trace\", \"version\": 2}",
       "t.json: version is 2, this build reads metro-trace up to version 1"},
      {"{" + base + "\"format\": \"metro-loads\", \"version\": 1}",
       "t.json: format is 'metro-loads', must be 'metro-trace'"},
      {"{\"num_experts\": 1}", "t.npy: [0][0][0] is 1, must be an expert 0..0 or -1 (masked)"},
  };
  for (const auto& [sidecar, message] : cases) EXPECT_EQ(trace_message(array, sidecar), message);
}

TEST(IoMalformed, TraceArray) {
  const Case cases[] = {
      {"{}", "t.npy: is not a .npy file, which opens with \\x93NUMPY"},
      {npy("|u1", "(3, 2)", "123456"), "t.npy: shape is (3, 2), must be (tokens, layers, topk)"},
      {npy("|u1", "(3, 0, 2)", ""), "t.npy: shape is (3, 0, 2), each dimension must be at least 1"},
      {npy("|i1", "(2, 1, 3)", "\x00\x01\x03\xff\x02\x04"s),
       "t.npy: [1][0][2] is 4, must be an expert 0..3 or -1 (masked)"},
      {npy("<i2", "(1, 2, 1)", packed<std::int16_t>({-1, -129})),
       "t.npy: [0][1][0] is -129, must be an expert 0..3 or -1 (masked)"},
  };
  for (const auto& [bytes, message] : cases) {
    EXPECT_EQ(trace_message(bytes, "{\"num_experts\": 4}"), message);
  }
}

TEST(IoMalformed, ArrayIsCheckedBeforeItsSidecar) {
  EXPECT_EQ(trace_message("garbage", "garbage"),
            "t.npy: is not a .npy file, which opens with \\x93NUMPY");
}

/// The scan for bad ids takes whole blocks first: a bad id must be found wherever it is.
TEST(IoMalformed, BadIdIsFoundInEveryPlaceAndType) {
  const std::string shape = "(9001, 1, 1)";
  for (const std::size_t place : {std::size_t{0}, std::size_t{4095}, std::size_t{4096},
                                  std::size_t{8191}, std::size_t{8192}, std::size_t{9000}}) {
    const auto check = [&]<typename T>(const char* descr, T good, T bad) {
      std::vector<T> ids(9001, good);
      ids[place] = bad;
      EXPECT_EQ(trace_message(npy(descr, shape, packed(ids)), "{\"num_experts\": 100}"),
                "t.npy: [" + std::to_string(place) + "][0][0] is " + std::to_string(bad) +
                    ", must be an expert 0..99 or -1 (masked)");
    };
    check("|u1", std::uint8_t{99}, std::uint8_t{100});
    check("|i1", std::int8_t{-1}, std::int8_t{-2});
    check("<u2", std::uint16_t{99}, std::uint16_t{65535});
    check("<i2", std::int16_t{-1}, std::numeric_limits<std::int16_t>::min());
    check("<u4", std::uint32_t{99}, std::uint32_t{100});
    check("<i4", std::int32_t{0}, std::numeric_limits<std::int32_t>::max());
    check("<u8", std::uint64_t{0}, std::uint64_t{1} << 32);
    check("<i8", std::int64_t{-1}, -(std::int64_t{1} << 32));
  }
}

}  // namespace
}  // namespace metro::io
