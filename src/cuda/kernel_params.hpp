// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "cuda/layer_table.hpp"
#include "metro/cuda/engine_maps.hpp"

/// What the kernels are given, and the handles to launch them by; no CUDA syntax.
namespace metro::cuda {

/// A batch of ids, row-major [tokens][topk].
struct Batch {
  const void* ids = nullptr;
  void* replicas = nullptr;
  const std::int32_t* num_valid_tokens = nullptr;  ///< on the device; null: all rows count
  int num_ids = 0;
  int topk = 1;
  bool wide = false;        ///< 64-bit ids and replicas
  bool vectorised = false;  ///< both pointers are 16-byte aligned
};

/// Counts that the caller asked for; null where not.
struct Counts {
  std::int32_t* activated_per_gpu = nullptr;
  std::int32_t* max_activated = nullptr;
  std::int32_t* tokens_per_replica = nullptr;  ///< added to
  std::int32_t* moves = nullptr;
  std::uint8_t* seen = nullptr;  ///< [replicas] scratch: set for those that got a token
};

/// A message of the exchange: the bitmap of active experts, then these two words.
inline constexpr int kMessageTail = 2;
inline constexpr int kTokensWord = 0;  ///< of the tail: valid rows
inline constexpr int kEpochWord = 1;   ///< of the tail: fingerprint of the placement
inline constexpr std::uint32_t kUnknownTokens = 0xFFFFFFFFU;  ///< -1 in tokens_per_rank
inline constexpr int kMaxMessageWords = kMaxRouterExperts / 32 + kMessageTail;
inline constexpr int kMaxRanks = 64;
inline constexpr std::uint32_t kMaxGeneration = 0xFFFF;  ///< of an exchange: 16 bits of a tag

/// ExchangeFault, as kernels write it.
inline constexpr std::uint32_t kFaultTimeout = 1;
inline constexpr std::uint32_t kFaultOutOfStep = 2;
inline constexpr std::uint32_t kFaultNotConnected = 4;

/// Kept on the device by each exchange.
struct ExchangeState {
  std::uint32_t step = 0;  ///< calls of this generation: part of a message's tag, and its buffer
  std::uint32_t generation = 0;            ///< counts resets
  std::uint32_t fault = 0;                 ///< stops the exchange until it is reset
  std::uint32_t fallbacks = 0;             ///< calls that used `home`
  std::uint32_t timeouts = 0;              ///< of these, because a message did not come
  std::uint32_t skipped = 0;               ///< of these, because the exchange had stopped
  std::uint32_t* fault_on_host = nullptr;  ///< a copy of `fault` that the host reads at any time
};

/// Peers' buffers: [2][ranks][kMaxMessageWords] words, each with the step that it belongs to.
struct PeerView {
  std::uint64_t* const* buffers = nullptr;  ///< on the device: one pointer per rank
  int rank = 0;
  int num_ranks = 0;  ///< 0: no exchange in this kernel
  std::int64_t timeout_ns = 0;
};

struct TableView {
  const std::uint32_t* words = nullptr;
  TableLayout layout;
};

/// `optimal`, `metro`, `metro-paper`.
struct ActiveParams {
  TableView table;
  Batch batch;
  Counts counts;
  PeerView peers;
  ExchangeState* exchange = nullptr;
  std::int32_t* tokens_per_rank = nullptr;
  const std::uint32_t* messages = nullptr;  ///< null: the batch's own ids say what is active
  int num_messages = 0;
  std::uint32_t* marks = nullptr;  ///< message of mark_kernel, cleared by the last CTA
  unsigned int* ticket = nullptr;
  EngineMaps engine;  ///< of engine_kernel alone
  bool early_launch = false;
};

/// `home`, `hash`, `shares`.
struct MapParams {
  TableView table;
  Batch batch;
  Counts counts;
  bool early_launch = false;
};

struct EvenParams {
  TableView table;
  Batch batch;
  Counts counts;
  std::int32_t* histograms = nullptr;  ///< [chunks][experts]; null when there is one chunk
  int chunk_ids = 0;                   ///< a multiple of kEvenStripIds
  bool early_launch = false;
};

struct MarkParams {
  TableView table;
  Batch batch;
  std::uint32_t* message = nullptr;  ///< zeroed
};

struct ExchangeParams {
  TableView table;
  PeerView peers;
  ExchangeState* exchange = nullptr;
  const std::uint32_t* message = nullptr;
  std::uint32_t* gathered = nullptr;  ///< [ranks][message words]
};

struct CountParams {
  TableView table;
  Counts counts;
};

inline constexpr int kMapThreads = 256;
inline constexpr int kEvenThreads = 1024;
inline constexpr int kEvenStripIds = 4096;
inline constexpr int kEvenMaxChunks = 64;
inline constexpr int kMarkThreads = 1024;
inline constexpr int kMarkIds = 4 * kMarkThreads;
inline constexpr int kExchangeThreads = 512;
inline constexpr int kCountThreads = 1024;

/// A kernel by its host symbol, with what its launch must keep to.
struct Kernel {
  const void* function = nullptr;
  int max_threads = 0;
  int shared_bytes = 0;
  bool waits = false;  ///< for the kernel in front, when it starts early; set when it is loaded
};

/// Whether code compiled for this virtual architecture (cudaFuncAttributes::ptxVersion) has
/// wait_for_previous_kernel in it. The device does not tell: a Hopper runs code that was compiled
/// for 8.0, which must not start early, since it would not wait.
constexpr bool has_early_launch(int ptx_version) noexcept { return ptx_version >= 90; }

/// `vectors`: groups of four ids that each thread holds, 1 or 4.
Kernel active_kernel(DevicePolicy policy, const TableLayout& layout, int vectors);
/// The same, serving by an engine's maps.
Kernel engine_kernel(DevicePolicy policy, const TableLayout& layout, int vectors);
Kernel map_kernel(DevicePolicy policy, const TableLayout& layout);
Kernel even_count_kernel(const TableLayout& layout);
Kernel even_map_kernel(const TableLayout& layout);
Kernel mark_kernel(const TableLayout& layout);
Kernel exchange_kernel(const TableLayout& layout);
Kernel count_kernel(const TableLayout& layout);

}  // namespace metro::cuda
