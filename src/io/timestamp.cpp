// SPDX-License-Identifier: Apache-2.0
#include "io/timestamp.hpp"

#include <chrono>
#include <cstddef>

namespace metro::io {
namespace {

/// Takes fixed-width numbers and marks from the front of a text; after a miss all that follow miss.
class Taker {
 public:
  explicit Taker(std::string_view text) : text_(text) {}

  /// A number of exactly `digits` digits in min..max.
  std::int64_t number(std::size_t digits, std::int64_t min, std::int64_t max) {
    std::int64_t value = 0;
    ok_ = ok_ && text_.size() >= digits;
    for (std::size_t i = 0; ok_ && i < digits; ++i) {
      ok_ = is_digit(text_[i]);
      value = value * 10 + (text_[i] - '0');
    }
    ok_ = ok_ && value >= min && value <= max;
    if (ok_) text_.remove_prefix(digits);
    return value;
  }

  /// One of the marks; '\0' when the text does not go on with any.
  char mark(std::string_view marks) {
    if (!ok_ || text_.empty() || marks.find(text_.front()) == std::string_view::npos) return '\0';
    const char taken = text_.front();
    text_.remove_prefix(1);
    return taken;
  }

  void need(std::string_view marks) { ok_ = mark(marks) != '\0'; }

  /// Up to nine digits behind a decimal point, in nanoseconds.
  std::int64_t fraction() {
    std::int64_t nanoseconds = 0;
    std::int64_t unit = 100'000'000;
    const std::size_t before = text_.size();
    for (; ok_ && !text_.empty() && is_digit(text_.front()); text_.remove_prefix(1), unit /= 10) {
      ok_ = unit > 0;
      nanoseconds += unit * (text_.front() - '0');
    }
    ok_ = ok_ && text_.size() < before;
    return nanoseconds;
  }

  [[nodiscard]] bool done() const { return ok_ && text_.empty(); }

 private:
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }

  std::string_view text_;
  bool ok_ = true;
};

}  // namespace

std::optional<std::int64_t> parse_timestamp(std::string_view text) {
  Taker take(text);
  const auto year = take.number(4, 1970, 2199);
  take.need("-");
  const auto month = take.number(2, 1, 12);
  take.need("-");
  const auto day = take.number(2, 1, 31);
  take.need(" T");
  std::int64_t seconds = take.number(2, 0, 23) * 3600;
  take.need(":");
  seconds += take.number(2, 0, 59) * 60;
  take.need(":");
  seconds += take.number(2, 0, 60);  // 60: a leap second
  const std::int64_t nanoseconds = take.mark(".") != '\0' ? take.fraction() : 0;
  if (const char sign = take.mark("Z+-"); sign == '+' || sign == '-') {
    std::int64_t offset = take.number(2, 0, 23) * 3600;
    take.mark(":");
    offset += take.number(2, 0, 59) * 60;
    seconds -= sign == '+' ? offset : -offset;
  }
  const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(year)),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!take.done() || !date.ok()) return std::nullopt;
  const auto days = std::chrono::sys_days(date).time_since_epoch().count();
  return (std::int64_t{days} * 86400 + seconds) * 1'000'000'000 + nanoseconds;
}

}  // namespace metro::io
