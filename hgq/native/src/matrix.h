// Float32 products of matrices of which one is small, as the kernel of a dense layer is: what a matrix library spends on packing large
// operands and on handing them to threads takes longer than the arithmetic of such a product.
//
// The bits of a result depend on shapes alone, not on threads or on where in memory a matrix lies. Each element is one chain of fused
// multiply-adds along the contracted axis, from 0 on. Where that is the batch (both operands have it first), there is a chain for each
// stretch of kStretch rows; the stretches of a block are added in order, then the blocks.
//
// parallel(count, cost, work) calls work(begin, end) on ranges that cover 0 to count, in any order, on any threads; `cost` in nanoseconds.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "tiles.h"

namespace hgqc {

// Everything on the calling thread.
struct OneThread {
  template <class Work>
  void operator()(int64_t count, int64_t, const Work& work) const {
    if (count > 0) work(0, count);
  }
};

namespace matrix {

using tiles::kLanes;
using tiles::kWide;
using tiles::Lanes;
using tiles::Tile;

constexpr int64_t kRowsTogether = 48;  // rows of a task: they and a panel stay in the first cache
constexpr int64_t kStretch = 128;
constexpr int64_t kBlocks = 16;
constexpr int64_t kNear = 1 << 20;       // numbers that the last cache, or the part of it that one may hope for, holds
constexpr double kPerNanosecond = 30.0;  // multiply-adds of one thread

inline int64_t nanoseconds(int64_t rows, int64_t cols, int64_t depth) { return (int64_t)((double)rows * cols * depth / kPerNanosecond); }
inline int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }
inline int64_t padded(int64_t columns) { return parts(columns, kLanes) * kLanes; }

// Memory of the calling thread that the next call finds again; work on other threads may use it until the call returns.
inline float* scratch(int64_t count) {
  static thread_local std::vector<float> kept;
  if ((int64_t)kept.size() < count) kept.resize(count);
  return kept.data();
}

// The first `width` numbers of a vector.
inline void store_part(float* at, Lanes x, int64_t width) {
  float all[kLanes];
  tiles::store(all, x);
  if (width >= 8) {
    std::memcpy(at, all, 32);
    std::memcpy(at + width - 8, all + width - 8, 32);
  } else if (width >= 4) {
    std::memcpy(at, all, 16);
    std::memcpy(at + width - 4, all + width - 4, 16);
  } else if (width >= 2) {
    std::memcpy(at, all, 8);
    std::memcpy(at + width - 2, all + width - 2, 8);
  } else if (width == 1) {
    *at = all[0];
  }
}

// ---- what is done with a sum before it is written

struct AsIs {
  Lanes operator()(Lanes sum, int64_t) const { return sum; }
};
template <bool kRelu>
struct Biased {
  const float* bias;  // padded
  Lanes operator()(Lanes sum, int64_t column) const {
    const Lanes z = sum + tiles::load(bias + column);
    return kRelu ? (z < 0.0f ? Lanes{} : z) : z;  // NaN stays
  }
};

// ---- rows of data times a small matrix

// A strip of columns of the small matrix, one row after the other, padded with zeros; all strips but the last are kWide wide.
struct Strip {
  int64_t column, width;
  const float* values;
};

template <int R, int V, class Finish>
__attribute__((noinline, aligned(64))) void rows_tile(const float* a, int64_t a_step, const Strip& strip, int64_t depth, float* out,
                                                      int64_t out_step, const Finish& finish) {
  const float* rows[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) rows[r] = a + r * a_step;
  // large batches come from memory: what the next block of rows reads, and what this tile will write, is fetched meanwhile
  const float* ahead = a + kRowsTogether * a_step;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) __builtin_prefetch(out + r * out_step + strip.column, 1);
  const float* panel = strip.values;
  Tile<R, V> sums;
  for (int64_t k = 0; k < depth; ++k, panel += V * kLanes, ahead += R) {
    __builtin_prefetch(ahead);
    tiles::add_products<R, V>(rows, k, panel, &sums);
  }
  const int64_t last = strip.width - (V - 1) * kLanes;  // of the last vector
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    float* const to = out + r * out_step + strip.column;
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const Lanes y = finish(sums.of[r][v], strip.column + v * kLanes);
      if (v < V - 1 || last == kLanes)
        tiles::store(to + v * kLanes, y);
      else
        store_part(to + v * kLanes, y, last);
    }
  }
}

template <int V, class Finish>
inline void rows_by_strip(const float* a, int64_t count, int64_t depth, const Strip& strip, float* out, int64_t cols, const Finish& finish) {
  constexpr int R = tiles::kRows<V>;
  for (int64_t begin = 0, rows; begin < count; begin += rows) {
    rows = parts(count - begin, parts(count - begin, R));  // tiles of about equal height: low ones wait for their own sums
    const float* const from = a + begin * depth;
    float* const to = out + begin * cols;
    switch (rows) {
      case 1: rows_tile<1, V>(from, depth, strip, depth, to, cols, finish); break;
      case 2: rows_tile<2, V>(from, depth, strip, depth, to, cols, finish); break;
      case 3: rows_tile<3, V>(from, depth, strip, depth, to, cols, finish); break;
      case 4: rows_tile<4, V>(from, depth, strip, depth, to, cols, finish); break;
      case 5: rows_tile<5, V>(from, depth, strip, depth, to, cols, finish); break;
      case 6: rows_tile<6, V>(from, depth, strip, depth, to, cols, finish); break;
      case 7: rows_tile<R == 8 ? 7 : 6, V>(from, depth, strip, depth, to, cols, finish); break;
      default: rows_tile<R, V>(from, depth, strip, depth, to, cols, finish);
    }
  }
}

// Transposes 4 x 4 numbers.
inline void turn(const float* from, int64_t from_step, float* to, int64_t to_step) {
  typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
  typedef int32_t Order __attribute__((vector_size(16)));
  const auto row = [&](int n) { return *reinterpret_cast<const Four*>(from + n * from_step); };
  const Four a = row(0), b = row(1), c = row(2), d = row(3);
  const Four low_ab = __builtin_shuffle(a, b, Order{0, 4, 1, 5}), low_cd = __builtin_shuffle(c, d, Order{0, 4, 1, 5});
  const Four high_ab = __builtin_shuffle(a, b, Order{2, 6, 3, 7}), high_cd = __builtin_shuffle(c, d, Order{2, 6, 3, 7});
  const auto put = [&](int n, Four x) { *reinterpret_cast<Four*>(to + n * to_step) = x; };
  put(0, __builtin_shuffle(low_ab, low_cd, Order{0, 1, 4, 5}));
  put(1, __builtin_shuffle(low_ab, low_cd, Order{2, 3, 6, 7}));
  put(2, __builtin_shuffle(high_ab, high_cd, Order{0, 1, 4, 5}));
  put(3, __builtin_shuffle(high_ab, high_cd, Order{2, 3, 6, 7}));
}

// The small matrix in strips: (depth, cols), or (cols, depth) where it is transposed.
inline void pack(const float* b, bool transposed, int64_t depth, int64_t cols, float* out) {
  for (int64_t column = 0, width; column < cols; column += width) {
    width = std::min<int64_t>(kWide, cols - column);
    const int64_t step = padded(width);
    float* const to = out + column * depth;
    if (width < step) std::fill(to, to + step * depth, 0.0f);
    if (transposed) {
      const int64_t fours = width / 4 * 4, deep = depth / 4 * 4;
      for (int64_t j = 0; j < fours; j += 4)
        for (int64_t k = 0; k < deep; k += 4) turn(b + (column + j) * depth + k, depth, to + k * step + j, step);
      for (int64_t j = 0; j < width; ++j)
        for (int64_t k = j < fours ? deep : 0; k < depth; ++k) to[k * step + j] = b[(column + j) * depth + k];
    } else if (width == kWide) {
      for (int64_t k = 0; k < depth; ++k) std::memcpy(to + k * kWide, b + k * cols + column, kWide * sizeof(float));
    } else {
      for (int64_t k = 0; k < depth; ++k)
        for (int64_t j = 0; j < width; ++j) to[k * step + j] = b[k * cols + column + j];
    }
  }
}

template <class Parallel, class Finish>
inline void times_small(const float* a, const float* packed, float* out, int64_t rows, int64_t cols, int64_t depth, const Parallel& parallel,
                        const Finish& finish) {
  parallel(parts(rows, kRowsTogether), nanoseconds(kRowsTogether, cols, depth), [&](int64_t from, int64_t to) {
    const int64_t end = std::min(rows, to * kRowsTogether);
    for (int64_t begin = from * kRowsTogether; begin < end; begin += kRowsTogether) {
      const int64_t count = std::min(kRowsTogether, end - begin);
      for (int64_t column = 0; column < cols; column += kWide) {
        const Strip strip{column, std::min<int64_t>(kWide, cols - column), packed + column * depth};
        if (strip.width > kLanes)
          rows_by_strip<2>(a + begin * depth, count, depth, strip, out + begin * cols, cols, finish);
        else
          rows_by_strip<1>(a + begin * depth, count, depth, strip, out + begin * cols, cols, finish);
      }
    }
  });
}

// ---- sums over the batch: a^T b

struct Columns {
  const float* values;
  int64_t width;  // of a row
};

// Rows of both matrices that go into a chain of sums.
struct Stretch {
  int64_t begin, count;
  bool far;  // in memory rather than in a cache
};

// Columns of b that are read as whole vectors, over the end of a row into the next. The last rows, where there is no next, are read from a copy.
struct Vectors {
  const float* values;
  int64_t step, count;
  const float* rest;
  int64_t rest_count, column, width;
};

// Where sums of columns i of a and j of b go: to[i * a_step + j * b_step].
struct Place {
  float* to;
  int64_t a_step, b_step;
  bool first;  // nothing is there yet
};

// How many rows ahead each matrix is brought from memory meanwhile: a stretch, by the first tile that reads these columns.
struct Ahead {
  int64_t a, b;
};

// The sum of the outer products of a[0..R) and b[lanes v].
template <int R, int V>
__attribute__((noinline, aligned(64))) void outer_tile(const float* a, int64_t a_step, const Vectors& b, const Ahead& ahead,
                                                       Tile<R, V>* result) {
  Tile<R, V> sums;
  const auto add = [&](const float* columns) {
    const float* rows[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) rows[r] = a + r;
    tiles::add_products<R, V>(rows, 0, columns, &sums);
    a += a_step;
  };
  const float* columns = b.values;
  const int64_t step = b.step, count = b.count;
  const int64_t a_ahead = ahead.a * a_step, b_ahead = ahead.b * step;
  if (a_ahead || b_ahead) {
    for (int64_t p = 0; p < count; ++p, columns += step) {
      __builtin_prefetch(a + a_ahead, 0, 2);
      __builtin_prefetch(columns + b_ahead, 0, 2);
      add(columns);
    }
  } else {
    for (int64_t p = 0; p < count; ++p, columns += step) add(columns);
  }
  for (int64_t p = 0; p < b.rest_count; ++p) add(b.rest + p * kWide);
  tiles::copy(sums, result);
}

template <int R, int V>
inline void add_outer(const float* a, int64_t a_step, const Vectors& b, const Ahead& ahead, const Place& place) {
  Tile<R, V> sums;
  outer_tile<R, V>(a, a_step, b, ahead, &sums);
  for (int r = 0; r < R; ++r) {
    const float* const from = reinterpret_cast<const float*>(&sums.of[r][0]);
    float* const to = place.to + r * place.a_step;
    if (place.first)
      for (int64_t j = 0; j < b.width; ++j) to[j * place.b_step] = from[j];
    else
      for (int64_t j = 0; j < b.width; ++j) to[j * place.b_step] += from[j];
  }
}

template <int V>
inline void add_strip(const Columns& a, const Stretch& stretch, const Vectors& b, const Place& place) {
  for (int64_t i = 0, rows; i < a.width; i += rows) {
    rows = parts(a.width - i, parts(a.width - i, tiles::kRows<2>));
    const float* const from = a.values + stretch.begin * a.width + i;
    const Ahead ahead{stretch.far && b.column == 0 ? kStretch : 0, stretch.far && i == 0 ? kStretch : 0};
    Place here = place;
    here.to += i * place.a_step;
    switch (rows) {
      case 1: add_outer<1, V>(from, a.width, b, ahead, here); break;
      case 2: add_outer<2, V>(from, a.width, b, ahead, here); break;
      case 3: add_outer<3, V>(from, a.width, b, ahead, here); break;
      case 4: add_outer<4, V>(from, a.width, b, ahead, here); break;
      case 5: add_outer<5, V>(from, a.width, b, ahead, here); break;
      default: add_outer<6, V>(from, a.width, b, ahead, here);
    }
  }
}

// A stretch of a^T b, both of `depth` rows.
inline void add_stretch(const Columns& a, const Columns& b, int64_t depth, const Stretch& stretch, const Place& place) {
  const int64_t begin = stretch.begin, end = begin + stretch.count;
  for (int64_t column = 0; column < b.width; column += kWide) {
    const int64_t width = std::min<int64_t>(kWide, b.width - column), spare = depth * b.width - column - padded(width);
    const int64_t safe = spare < 0 ? begin : std::max(begin, std::min(end, spare / b.width + 1));  // rows from which vectors can be read
    float rest[kWide * kWide];
    for (int64_t p = safe; p < end; ++p) {
      float* const to = rest + (p - safe) * kWide;
      std::fill(std::copy_n(b.values + p * b.width + column, width, to), to + kWide, 0.0f);
    }
    const Vectors vectors{b.values + begin * b.width + column, b.width, safe - begin, rest, end - safe, column, width};
    Place here = place;
    here.to += column * place.b_step;
    if (width > kLanes)
      add_strip<2>(a, stretch, vectors, here);
    else
      add_strip<1>(a, stretch, vectors, here);
  }
}

template <class Parallel>
inline void sum_over_rows(Columns a, Columns b, float* out, int64_t depth, const Parallel& parallel) {
  const int64_t size = a.width * b.width, stretches = parts(depth, kStretch), blocks = std::min(kBlocks, stretches);
  const bool far = depth * (a.width + b.width) > kNear;
  int64_t a_step = b.width, b_step = 1;
  if (padded(b.width) * a.width > padded(a.width) * b.width) {  // the other way round fewer lanes are idle
    std::swap(a, b);
    std::swap(a_step, b_step);
  }
  float* const others = scratch((blocks - 1) * size);
  parallel(blocks, nanoseconds(parts(depth, blocks), a.width, b.width), [&](int64_t from, int64_t to) {
    for (int64_t block = from; block < to; ++block) {
      float* const sums = block == 0 ? out : others + (block - 1) * size;
      const int64_t first = block * stretches / blocks, end = (block + 1) * stretches / blocks;
      for (int64_t stretch = first; stretch < end; ++stretch) {
        const int64_t begin = stretch * kStretch;
        add_stretch(a, b, depth, {begin, std::min(kStretch, depth - begin), far}, {sums, a_step, b_step, stretch == first});
      }
    }
  });
  for (int64_t block = 1; block < blocks; ++block) {
    const float* const other = others + (block - 1) * size;
    for (int64_t j = 0; j < size; ++j) out[j] += other[j];
  }
}

}  // namespace matrix

// out (rows, cols) = a b. a is (rows, depth), or (depth, rows) where `transpose_a`; b is (depth, cols), or (cols, depth) where `transpose_b`.
// Not both are transposed. `out` is neither of them.
template <class Parallel>
void matrix_product(const float* a, const float* b, float* out, int64_t rows, int64_t cols, int64_t depth, bool transpose_a, bool transpose_b,
                    const Parallel& parallel) {
  if (rows == 0 || cols == 0) return;
  if (depth == 0) {
    std::fill(out, out + rows * cols, 0.0f);
    return;
  }
  if (transpose_a) {
    matrix::sum_over_rows({a, rows}, {b, cols}, out, depth, parallel);
    return;
  }
  float* const packed = matrix::scratch(depth * matrix::padded(cols));
  matrix::pack(b, transpose_b, depth, cols, packed);
  matrix::times_small(a, packed, out, rows, cols, depth, parallel, matrix::AsIs());
}

// out (rows, cols) = x (rows, depth) kernel (depth, cols) + bias (cols), or the ReLU of that: the bias is added to the finished sum.
template <class Parallel>
void dense_product(const float* x, const float* kernel, const float* bias, bool relu, float* out, int64_t rows, int64_t cols, int64_t depth,
                   const Parallel& parallel) {
  const int64_t size = depth * matrix::padded(cols);
  float *const packed = matrix::scratch(size + matrix::padded(cols)), *const padded_bias = packed + size;
  matrix::pack(kernel, false, depth, cols, packed);
  std::fill(std::copy(bias, bias + cols, padded_bias), padded_bias + matrix::padded(cols), 0.0f);
  if (relu)
    matrix::times_small(x, packed, out, rows, cols, depth, parallel, matrix::Biased<true>{padded_bias});
  else
    matrix::times_small(x, packed, out, rows, cols, depth, parallel, matrix::Biased<false>{padded_bias});
}

}  // namespace hgqc
