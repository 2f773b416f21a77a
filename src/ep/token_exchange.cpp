// SPDX-License-Identifier: Apache-2.0
#include "ep/token_exchange.hpp"

#include <cstring>
#include <numeric>

namespace metro::ep {
namespace {

std::size_t sum(const std::vector<std::size_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::size_t{0});
}

std::vector<std::size_t> times(std::vector<std::size_t> counts, std::size_t factor) {
  for (std::size_t& count : counts) count *= factor;
  return counts;
}

/// Copies rows `of` of a row-major array to `out`; returns where they end.
template <typename T>
std::byte* put_rows(std::span<const T> values, std::size_t width, std::span<const std::int32_t> of,
                    std::byte* out) {
  for (const std::int32_t row : of) {
    std::memcpy(out, values.data() + static_cast<std::size_t>(row) * width, width * sizeof(T));
    out += width * sizeof(T);
  }
  return out;
}

template <typename T>
const std::byte* take_rows(const std::byte* in, std::size_t count, T* out) {
  if (count > 0) std::memcpy(out, in, count * sizeof(T));
  return in + count * sizeof(T);
}

}  // namespace

TokenExchange::TokenExchange(int hidden, int topk, Transport& transport)
    : hidden_(static_cast<std::size_t>(hidden)),
      topk_(static_cast<std::size_t>(topk)),
      transport_(transport),
      sent_(static_cast<std::size_t>(transport.size())),
      received_(sent_.size()) {}

TokenExchange::Rows TokenExchange::dispatch(const TokenTargets& targets, const Rows& rows) {
  pack(targets, rows);
  const std::vector<std::size_t> one(sent_.size(), sizeof(std::size_t));
  transport_.all_to_all(std::as_bytes(std::span(sent_)), one,
                        std::as_writable_bytes(std::span(received_)), one);
  receive_.resize(sum(received_) * row_bytes());
  transport_.all_to_all(send_, times(sent_, row_bytes()), receive_, times(received_, row_bytes()));
  return unpack();
}

/// A block for each target: tokens, then replicas, then weights.
void TokenExchange::pack(const TokenTargets& targets, const Rows& rows) {
  for (std::size_t r = 0; r < sent_.size(); ++r) {
    sent_[r] = targets.rows(static_cast<int>(r)).size();
  }
  send_.resize(sum(sent_) * row_bytes());
  std::byte* out = send_.data();
  for (std::size_t r = 0; r < sent_.size(); ++r) {
    const auto of = targets.rows(static_cast<int>(r));
    out = put_rows(rows.x, hidden_, of, out);
    out = put_rows(rows.replica_ids, topk_, of, out);
    out = put_rows(rows.weights, topk_, of, out);
  }
}

TokenExchange::Rows TokenExchange::unpack() {
  const std::size_t total = sum(received_);
  x_.resize(total * hidden_);
  replica_ids_.resize(total * topk_);
  weights_.resize(total * topk_);
  const std::byte* in = receive_.data();
  std::size_t row = 0;
  for (const std::size_t count : received_) {
    in = take_rows(in, count * hidden_, x_.data() + row * hidden_);
    in = take_rows(in, count * topk_, replica_ids_.data() + row * topk_);
    in = take_rows(in, count * topk_, weights_.data() + row * topk_);
    row += count;
  }
  return {x_, replica_ids_, weights_};
}

std::span<const float> TokenExchange::give_back(std::span<const float> results) {
  const std::size_t bytes = hidden_ * sizeof(float);
  returned_.resize(sum(sent_) * hidden_);
  transport_.all_to_all(std::as_bytes(results), times(received_, bytes),
                        std::as_writable_bytes(std::span(returned_)), times(sent_, bytes));
  return returned_;
}

}  // namespace metro::ep
