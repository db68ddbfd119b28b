// Float32 products of small matrices in tiles of registers: what a layer of some tens of channels needs, and big matrix routines are slow at.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__AVX__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace hgqc {
namespace tiles {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
typedef float Lanes __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));  // loads need no alignment

inline Lanes load(const float* at) { return *reinterpret_cast<const Lanes*>(at); }
inline void store(float* at, Lanes x) { *reinterpret_cast<Lanes*>(at) = x; }
inline Lanes spread(float x) {
#if defined(__AVX512F__)
  return (Lanes)_mm512_set1_ps(x);
#elif defined(__AVX__)
  return (Lanes)_mm256_set1_ps(x);
#else
  return Lanes{x, x, x, x};
#endif
}

// The library is compiled without contraction, for its other ops; here a fused product loses nothing.
inline Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
#if defined(__AVX512F__)
  return (Lanes)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX__) && defined(__FMA__)
  return (Lanes)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

// Columns are done `kWide` or `kLanes` at a time, rows as many as there are registers for.
constexpr int kWide = 2 * kLanes;
template <int V>
constexpr int kRows = V == 2 ? 6 : 8;
constexpr int64_t kMostRows = 24;  // a multiple of both

// One strip of columns of a matrix, its rows one after the other, padded with zeros.
struct Panel {
  int64_t column, width;  // width: of these, without padding
  int vectors;
  const float* values;
};

// A matrix (depth, columns) as panels. `at(row, column)` gives its elements.
class Panels {
 public:
  template <class At>
  Panels(int64_t depth, int64_t columns, const At& at) {
    const int64_t padded = (columns + kLanes - 1) / kLanes * kLanes;
    values_.assign(depth * padded, 0.0f);
    float* out = values_.data();
    for (int64_t column = 0; column < columns;) {
      const int vectors = columns - column > kLanes ? 2 : 1;
      const int64_t width = std::min<int64_t>(columns - column, vectors * kLanes);
      panels_.push_back({column, width, vectors, out});
      for (int64_t row = 0; row < depth; ++row, out += vectors * kLanes)
        for (int64_t j = 0; j < width; ++j) out[j] = at(row, column + j);
      column += width;
    }
  }
  const std::vector<Panel>& all() const { return panels_; }

 private:
  std::vector<float> values_;
  std::vector<Panel> panels_;
};

// Sums of R rows and V vectors of columns. Functions keep their own in registers (nobody has the address of those) and copy them out at the end.
template <int R, int V>
struct Tile {
  Lanes of[R][V] = {};
};

template <int R, int V>
inline void copy(const Tile<R, V>& from, Tile<R, V>* to) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) to->of[r][v] = from.of[r][v];
}

template <int R, int V>
inline void add_products(const float* const* rows, int64_t k, const float* panel, Tile<R, V>* sums) {
  Lanes columns[V];
#pragma GCC unroll 2
  for (int v = 0; v < V; ++v) columns[v] = load(panel + v * kLanes);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const Lanes x = spread(rows[r][k]);
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sums->of[r][v] = multiply_add(x, columns[v], sums->of[r][v]);
  }
}

// Products of gathered rows with a panel. A row is `segments` stretches of `length` numbers; the first of segment s of row r is at[s * R + r].
template <int R, int V>
__attribute__((noinline)) void rows_by_panel(const float* const* at, int64_t segments, int64_t length, const float* panel, Tile<R, V>* result) {
  Tile<R, V> sums;
  for (int64_t s = 0; s < segments; ++s, at += R) {
    const float* row[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) row[r] = at[r];
    for (int64_t k = 0; k < length; ++k, panel += V * kLanes) add_products<R, V>(row, k, panel, &sums);
  }
  copy(sums, result);
}

// out (count, stride) = gathered rows times panel; `first(s, p)` is where segment s of row p begins.
template <int V, class First>
inline void strip(int64_t count, int64_t segments, int64_t length, const Panel& panel, const First& first, float* out, int64_t stride) {
  constexpr int R = kRows<V>;
  std::vector<const float*> at(segments * R);
  for (int64_t begin = 0; begin < count; begin += R) {
    const int64_t rows = std::min<int64_t>(R, count - begin);
    for (int64_t s = 0; s < segments; ++s)
      for (int r = 0; r < R; ++r) at[s * R + r] = first(s, begin + std::min<int64_t>(r, rows - 1));
    Tile<R, V> sums;
    rows_by_panel<R, V>(at.data(), segments, length, panel.values, &sums);
    for (int64_t r = 0; r < rows; ++r) {
      float* const to = out + (begin + r) * stride + panel.column;
      if (panel.width == V * kLanes) {
        for (int v = 0; v < V; ++v) store(to + v * kLanes, sums.of[r][v]);
      } else {
        std::memcpy(to, &sums.of[r][0], panel.width * sizeof(float));
      }
    }
  }
}

template <class First>
inline void times_panels(int64_t count, int64_t segments, int64_t length, const Panels& panels, const First& first, float* out, int64_t stride) {
  for (const Panel& panel : panels.all()) {
    if (panel.vectors == 2)
      strip<2>(count, segments, length, panel, first, out, stride);
    else
      strip<1>(count, segments, length, panel, first, out, stride);
  }
}

// Numbers x_step apart that belong to rows of g which lie one after the other.
struct Piece {
  const float* x;
  int64_t count;
};

// result = sum of the outer products of x[0..R) and g[lanes v], pixel by pixel, `offset` numbers further along in each piece.
template <int R, int V>
__attribute__((noinline)) void outer(const std::vector<Piece>& pieces, int64_t offset, int64_t x_step, const float* g, int64_t g_step,
                                     Tile<R, V>* result) {
  Tile<R, V> sums;
  for (const Piece& piece : pieces) {
    const float* x = piece.x + offset;
    for (int64_t p = 0; p < piece.count; ++p, x += x_step, g += g_step) {
      const float* rows[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) rows[r] = x + r;
      add_products<R, V>(rows, 0, g, &sums);
    }
  }
  copy(sums, result);
}

}  // namespace tiles
}  // namespace hgqc
