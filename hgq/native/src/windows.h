// The three products of a convolution without padding, channels last.
#pragma once
#include "tiles.h"

namespace hgqc {

struct Windows {
  int64_t samples, height, width, channels;    // of the data
  int64_t taps_y, taps_x, stride_y, stride_x;
  int64_t out_height, out_width, outputs;      // of the result

  int64_t pixels() const { return samples * out_height * out_width; }
  int64_t span() const { return taps_x * channels; }   // numbers of one row of a window: they lie side by side
  int64_t depth() const { return taps_y * span(); }
  bool pointwise() const { return taps_y == 1 && taps_x == 1 && stride_y == 1 && stride_x == 1; }
  // Where the window of a pixel begins.
  int64_t corner(int64_t pixel) const {
    const int64_t ox = pixel % out_width, row = pixel / out_width, oy = row % out_height, n = row / out_height;
    return ((n * height + oy * stride_y) * width + ox * stride_x) * channels;
  }
};

constexpr int64_t kPixels = 8 * tiles::kMostRows;  // of a task

// y (pixels, outputs): each window times the kernel (taps_y, taps_x, channels, outputs).
template <class Parallel>
void convolve(const Windows& w, const float* x, const tiles::Panels& kernel, float* y, const Parallel& parallel) {
  const int64_t tasks = (w.pixels() + kPixels - 1) / kPixels, line = w.width * w.channels;
  parallel(tasks, kPixels * w.depth() * w.outputs / 16, [&](int64_t from, int64_t to) {
    const float* corners[kPixels];
    for (int64_t task = from; task < to; ++task) {
      const int64_t begin = task * kPixels, count = std::min(kPixels, w.pixels() - begin);
      for (int64_t p = 0; p < count; ++p) corners[p] = x + w.corner(begin + p);
      tiles::times_panels(count, w.taps_y, w.span(), kernel, [&](int64_t s, int64_t p) { return corners[p] + s * line; },
                          y + begin * w.outputs, w.outputs);
    }
  });
}

inline tiles::Panels forward_panels(const Windows& w, const float* kernel) {
  return tiles::Panels(w.depth(), w.outputs, [&](int64_t row, int64_t column) { return kernel[row * w.outputs + column]; });
}

// dx, shaped as x: what g (pixels, outputs) says of the data. Each task makes whole lines of dx: for each pixel of the line what it gives to
// the taps side by side, then their sum.
template <class Parallel>
void convolve_data(const Windows& w, const float* g, const float* kernel, float* dx, const Parallel& parallel) {
  if (w.pointwise()) {
    const Windows turned{w.samples, w.height, w.width, w.outputs, 1, 1, 1, 1, w.out_height, w.out_width, w.channels};
    const tiles::Panels panels(w.outputs, w.channels, [&](int64_t f, int64_t c) { return kernel[c * w.outputs + f]; });
    convolve(turned, g, panels, dx, parallel);
    return;
  }
  const int64_t span = w.span(), line = w.width * w.channels, padded = (span + tiles::kLanes - 1) / tiles::kLanes * tiles::kLanes;
  const tiles::Panels panels(w.taps_y * w.outputs, span, [&](int64_t row, int64_t column) {
    return kernel[(row / w.outputs * span + column) * w.outputs + row % w.outputs];
  });
  const std::vector<float> nothing(w.outputs, 0.0f);
  const int64_t lines = std::max<int64_t>(1, std::min(w.height, kPixels / w.out_width)), bands = (w.height + lines - 1) / lines;
  parallel(w.samples * bands, lines * w.out_width * w.depth() * w.outputs / 16, [&](int64_t from, int64_t to) {
    std::vector<float> given(lines * w.out_width * padded);
    for (int64_t task = from; task < to; ++task) {
      const int64_t n = task / bands, top = task % bands * lines, count = std::min(lines, w.height - top);
      const auto first = [&](int64_t ky, int64_t p) {
        const int64_t below = top + p / w.out_width - ky, oy = below / w.stride_y;
        if (below < 0 || below % w.stride_y || oy >= w.out_height) return nothing.data();
        return g + ((n * w.out_height + oy) * w.out_width + p % w.out_width) * w.outputs;
      };
      tiles::times_panels(count * w.out_width, w.taps_y, w.outputs, panels, first, given.data(), padded);
      for (int64_t y = 0; y < count; ++y) {
        float* const to_line = dx + (n * w.height + top + y) * line;
        std::fill(to_line, to_line + line, 0.0f);
        for (int64_t ox = 0; ox < w.out_width; ++ox) {
          const float* const part = given.data() + (y * w.out_width + ox) * padded;
          float* const out = to_line + ox * w.stride_x * w.channels;
          for (int64_t j = 0; j < span; ++j) out[j] += part[j];
        }
      }
    }
  });
}

template <int R, int V>
inline void kernel_tile(const Windows& w, const std::vector<tiles::Piece>& pieces, int64_t offset, const float* g, int64_t g_step, float* sums,
                        int64_t width) {
  tiles::Tile<R, V> total;
  tiles::outer<R, V>(pieces, offset, w.stride_x * w.channels, g, g_step, &total);
  for (int r = 0; r < R; ++r)
    for (int64_t j = 0; j < width; ++j) sums[r * w.outputs + j] += total.of[r][j / tiles::kLanes][j % tiles::kLanes];
}

template <int V>
inline void kernel_columns(const Windows& w, const std::vector<tiles::Piece>& pieces, const float* g, int64_t g_step, float* sums, int64_t width) {
  for (int64_t ky = 0; ky < w.taps_y; ++ky)
    for (int64_t j = 0, rows; j < w.span(); j += rows) {
      rows = std::min<int64_t>(6, w.span() - j);
      const int64_t offset = ky * w.width * w.channels + j;
      float* const out = sums + (ky * w.span() + j) * w.outputs;
      switch (rows) {
        case 1: kernel_tile<1, V>(w, pieces, offset, g, g_step, out, width); break;
        case 2: kernel_tile<2, V>(w, pieces, offset, g, g_step, out, width); break;
        case 3: kernel_tile<3, V>(w, pieces, offset, g, g_step, out, width); break;
        case 4: kernel_tile<4, V>(w, pieces, offset, g, g_step, out, width); break;
        case 5: kernel_tile<5, V>(w, pieces, offset, g, g_step, out, width); break;
        default: kernel_tile<6, V>(w, pieces, offset, g, g_step, out, width);
      }
    }
}

// dk (depth, outputs): what g says of the kernel. Sums over fixed blocks of pixels, so that they are the same with any number of threads.
template <class Parallel>
void convolve_kernel(const Windows& w, const float* x, const float* g, float* dk, const Parallel& parallel) {
  constexpr int64_t kStretch = 512;
  const int64_t size = w.depth() * w.outputs, stretches = (w.pixels() + kStretch - 1) / kStretch;
  const int64_t blocks = std::max<int64_t>(1, std::min<int64_t>(16, stretches));
  const int64_t padded = (w.outputs + tiles::kLanes - 1) / tiles::kLanes * tiles::kLanes;
  std::vector<float> partial(blocks * size, 0.0f);
  parallel(blocks, w.pixels() / blocks * size / 16, [&](int64_t from, int64_t to) {
    std::vector<float> copy(padded == w.outputs ? 0 : kStretch * padded, 0.0f);
    std::vector<tiles::Piece> pieces;
    for (int64_t block = from; block < to; ++block)
      for (int64_t stretch = block * stretches / blocks; stretch < (block + 1) * stretches / blocks; ++stretch) {
        const int64_t begin = stretch * kStretch, end = std::min(w.pixels(), begin + kStretch);
        const float* own = g + begin * w.outputs;
        if (!copy.empty()) {  // whole vectors are read
          for (int64_t p = 0; p < end - begin; ++p) std::copy(own + p * w.outputs, own + (p + 1) * w.outputs, copy.data() + p * padded);
          own = copy.data();
        }
        pieces.clear();
        for (int64_t pixel = begin; pixel < end; pixel += pieces.back().count)
          pieces.push_back({x + w.corner(pixel), std::min(end - pixel, w.out_width - pixel % w.out_width)});
        float* const sums = partial.data() + block * size;
        for (int64_t column = 0; column < w.outputs;) {
          const int64_t left = w.outputs - column, width = std::min<int64_t>(left, left > tiles::kLanes ? tiles::kWide : tiles::kLanes);
          if (width > tiles::kLanes)
            kernel_columns<2>(w, pieces, own + column, padded, sums + column, width);
          else
            kernel_columns<1>(w, pieces, own + column, padded, sums + column, width);
          column += width;
        }
      }
  });
  std::fill(dk, dk + size, 0.0f);
  for (int64_t block = 0; block < blocks; ++block)
    for (int64_t j = 0; j < size; ++j) dk[j] += partial[block * size + j];
}

// Gradient of the greatest of each window (taps_y, taps_x), channel by channel: all of it goes to the first element that is greatest.
template <class Parallel>
void greatest_gradient(const Windows& w, const float* x, const float* y, const float* g, float* dx, const Parallel& parallel) {
  const int64_t line = w.width * w.channels, image = w.height * line, c = w.channels;
  parallel(w.samples, 2 * image, [&](int64_t from, int64_t to) {
    std::vector<int32_t> open(c);
    for (int64_t n = from; n < to; ++n) {
      std::fill(dx + n * image, dx + (n + 1) * image, 0.0f);
      for (int64_t pixel = n * w.out_height * w.out_width; pixel < (n + 1) * w.out_height * w.out_width; ++pixel) {
        const int64_t corner = w.corner(pixel);
        const float *const top = y + pixel * c, *const given = g + pixel * c;
        std::fill(open.begin(), open.end(), -1);
        for (int64_t ky = 0; ky < w.taps_y; ++ky)
          for (int64_t kx = 0; kx < w.taps_x; ++kx) {
            const float* const at = x + corner + ky * line + kx * c;
            float* const out = dx + corner + ky * line + kx * c;
            for (int64_t j = 0; j < c; ++j) {
              const int32_t here = open[j] & -(int32_t)(at[j] == top[j]);
              open[j] &= ~here;
              out[j] += here ? given[j] : 0.0f;
            }
          }
      }
    }
  });
}

}  // namespace hgqc
