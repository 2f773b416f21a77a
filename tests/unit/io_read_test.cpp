// SPDX-License-Identifier: Apache-2.0
// What the readers take, and what they say of files that cannot be opened.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <thread>

#include "io/parse.hpp"
#include "unit/io_support.hpp"

namespace metro::io {
namespace {

using io_test::message_of;
using io_test::npy;
using io_test::npy_of;
using io_test::packed;
using io_test::put;
using io_test::TempDir;
using namespace std::string_literals;

using Ids = std::vector<std::int32_t>;

TEST(IoRead, TopkOfEveryIntegerType) {
  const auto ids_of = [](const std::string& bytes) {
    return parse_topk(text_bytes(bytes), 300, "f").ids;
  };
  EXPECT_EQ(ids_of(npy("|u1", "(1, 2)", packed<std::uint8_t>({0, 255}))), (Ids{0, 255}));
  EXPECT_EQ(ids_of(npy("<u1", "(1, 2)", packed<std::uint8_t>({0, 255}))), (Ids{0, 255}));
  EXPECT_EQ(ids_of(npy("|i1", "(1, 2)", packed<std::int8_t>({-1, 127}))), (Ids{-1, 127}));
  EXPECT_EQ(ids_of(npy("<u2", "(2, 1)", packed<std::uint16_t>({1, 299}))), (Ids{1, 299}));
  EXPECT_EQ(ids_of(npy("<i2", "(2, 1)", packed<std::int16_t>({-1, 299}))), (Ids{-1, 299}));
  EXPECT_EQ(ids_of(npy("<u4", "(2, 1)", packed<std::uint32_t>({1, 299}))), (Ids{1, 299}));
  EXPECT_EQ(ids_of(npy("<i4", "(2, 1)", packed<std::int32_t>({-1, 299}))), (Ids{-1, 299}));
  EXPECT_EQ(ids_of(npy("<u8", "(2, 1)", packed<std::uint64_t>({1, 299}))), (Ids{1, 299}));
  EXPECT_EQ(ids_of(npy("<i8", "(2, 1)", packed<std::int64_t>({-1, 299}))), (Ids{-1, 299}));
}

TEST(IoRead, NpyVersionsAndHeaderSpellings) {
  const std::string dict = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2), }\n";
  const std::string v1 = npy_of(dict, "\1\2");
  std::string v2 = v1;
  v2[6] = 2;
  v2.insert(10, "\0\0"s);
  std::string v3 = v2;
  v3[6] = 3;
  const std::string spellings[] = {
      v1,
      v2,
      v3,
      npy_of("{\"shape\":(1,2),\"fortran_order\":False,\"descr\":\"|u1\"}", "\1\2"),
      npy_of(" { 'shape' : ( 1 , 2 , ) , 'descr' : '|u1' , 'fortran_order' : False } ", "\1\2"),
  };
  for (const std::string& file : spellings) {
    EXPECT_EQ(parse_topk(text_bytes(file), 3, "f").ids, (Ids{1, 2}));
  }
}

TEST(IoRead, TopkMayBeEmptyWideOrRepeat) {
  const auto parse = [](const std::string& bytes) { return parse_topk(text_bytes(bytes), 2, "f"); };
  EXPECT_EQ(parse("[]").num_tokens, 0);
  EXPECT_EQ(parse(npy("<i4", "(0, 8)", "")).num_tokens, 0);
  EXPECT_EQ(parse(npy("<i4", "(0, 8)", "")).topk, 8);
  EXPECT_EQ(parse("\xef\xbb\xbf [[0, 0, 1, -1], [1, 1, 1, 1]]\n").ids,
            (Ids{0, 0, 1, -1, 1, 1, 1, 1}));
}

TEST(IoRead, LoadsOfIntegersAndFloats) {
  const std::vector<double> wanted = {0, 1, 2.5, 3e9};
  const auto tokens_of = [](const std::string& bytes) {
    return parse_loads(text_bytes(bytes), "f").tokens;
  };
  EXPECT_EQ(tokens_of(npy("<f8", "(2, 2)", packed(wanted))), wanted);
  EXPECT_EQ(tokens_of(npy("<f4", "(2, 2)", packed<float>({0, 1, 2.5F, 3e9F}))), wanted);
  EXPECT_EQ(tokens_of("{\"loads\": [[0, 1], [2.5, 3e9]], \"note\": {}}"), wanted);
  EXPECT_EQ(tokens_of(npy("<u4", "(1, 2)", packed<std::uint32_t>({7, 4294967295U}))),
            (std::vector<double>{7, 4294967295.0}));
}

TEST(IoRead, PlacementMayLeaveOutWhatFollows) {
  const Placement placement = parse_placement(
      "{\"format\": \"metro-placement\", \"version\": 1, \"num_experts\": 2, \"num_gpus\": 2, "
      "\"layers\": [{\"replica_to_expert\": [0, 1, 1, 0]}], \"made_by\": [null, {}]}",
      "f");
  EXPECT_EQ(placement.layers[0].replica_to_gpu, (Ids{0, 0, 1, 1}));
  EXPECT_TRUE(placement.layers[0].home.empty());
  EXPECT_TRUE(placement.layers[0].shares.empty());
}

TEST(IoRead, PlacementMayLeaveAGpuEmpty) {
  const Placement placement = parse_placement(
      "{\"format\": \"metro-placement\", \"version\": 1, \"num_experts\": 2, \"num_gpus\": 3, "
      "\"layers\": [{\"replica_to_expert\": [0, 1, 1, 0], \"replica_to_gpu\": [2, 2, 2, 0], "
      "\"home\": [3, 2], \"shares\": [0.25, 1, 2, 0.75]}]}",
      "f");
  EXPECT_EQ(placement.layers[0].replica_to_gpu, (Ids{2, 2, 2, 0}));
  EXPECT_EQ(placement.layers[0].home, (Ids{3, 2}));
  EXPECT_EQ(placement.layers[0].shares, (std::vector<double>{0.25, 1, 2, 0.75}));
}

TEST(IoRead, TraceSidecarNeedsOnlyNumExperts) {
  const TempDir dir;
  put(dir / "t.npy", npy("|u1", "(3, 1, 2)", std::string(6, '\3')));
  put(dir / "t.json", R"({"num_experts": 4, "format": "NumPy, as another tool says", "x": [[]]})");
  const RoutingTrace trace = read_trace(dir / "t.npy");
  EXPECT_EQ(trace.info().sequence_lengths, (std::vector<std::int64_t>{3}));
  EXPECT_EQ(trace.info().phase, "mixed");
  EXPECT_EQ(trace.id(2, 0, 1), 3);
}

TEST(IoRead, FilesThatCannotBeRead) {
  const TempDir dir;
  const std::string missing = dir / "missing.json";
  EXPECT_EQ(message_of([&] { (void)read_placement(missing); }),
            missing + ": cannot be read: No such file or directory");
  EXPECT_EQ(message_of([&] { (void)read_loads(dir.path()); }),
            dir.path().string() + ": is a directory, must be a file");
  const std::string empty = dir / "empty.npy";
  put(empty, "");
  EXPECT_EQ(message_of([&] { (void)read_topk(empty, 4); }), empty + ": is empty");
  EXPECT_EQ(message_of([&] { (void)sha256_file(missing); }),
            missing + ": cannot be read: No such file or directory");
  if (::geteuid() != 0) {
    const std::string secret = dir / "secret.json";
    put(secret, "[]");
    std::filesystem::permissions(secret, std::filesystem::perms::none);
    EXPECT_EQ(message_of([&] { (void)read_topk(secret, 4); }),
              secret + ": cannot be read: Permission denied");
  }
}

TEST(IoRead, MissingSidecarNamesBothFiles) {
  const TempDir dir;
  const std::string array = dir / "t.npy";
  put(array, npy("|u1", "(1, 1, 1)", "\0"s));
  EXPECT_EQ(message_of([&] { (void)read_trace(array); }),
            array + ": its " + (dir / "t.json").string() +
                " is missing, a trace needs both; 'metro trace convert' makes one of a bare .npy");
  put(array, "damaged");
  EXPECT_EQ(message_of([&] { (void)read_trace(array); }),
            array + ": is not a .npy file, which opens with \\x93NUMPY");
}

TEST(IoRead, PipesAreReadIntoMemory) {
  const TempDir dir;
  const auto pipe = dir / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::vector<std::int32_t> ids(100000);  // more than a pipe holds at once
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i % 7);
  std::thread writer([&] { put(pipe, npy("<i4", "(50000, 2)", packed(ids))); });
  const TopkBatch batch = read_topk(pipe, 7);
  writer.join();
  EXPECT_EQ(batch.ids, ids);
  EXPECT_EQ(sha256_file(pipe), "");
}

}  // namespace
}  // namespace metro::io
