// The counter-based random numbers of hgq/gradients/random.py: number n of a seed is a pure function of both, so any thread may compute it.
#pragma once
#include <cstdint>

namespace hgqc {

constexpr uint32_t kGolden = 0x9E3779B9u;  // 2^32 / golden ratio

inline uint32_t mixed(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
  x = (x ^ (x >> 13)) * 0xC2B2AE35u;
  return x ^ (x >> 16);
}

// Where the stream of a seed starts.
inline uint32_t stream(uint32_t first, uint32_t second) { return mixed(first * kGolden + second); }

// The first word of the seed for the `number`-th independent use of this one; the second word stays.
inline uint32_t derived(uint32_t first, uint32_t number) {
  return first + (uint32_t)(((uint64_t)number * 0x3C6EF372u) & 0x7FFFFFFFu);
}

// The place of number `index` in a stream; that of the next one is kGolden further.
inline uint32_t place_of(uint32_t start, int64_t index) { return start + (uint32_t)index * kGolden; }

// Uniform in [0, 1), a multiple of 2^-24.
inline float uniform_at(uint32_t place) { return (float)(int32_t)(mixed(place) >> 8) * 0x1p-24f; }

}  // namespace hgqc
