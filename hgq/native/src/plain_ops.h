// TensorFlow's elementwise ops on raw memory, with its broadcasting, for programs: the same bits. What is not here, programs leave to
// TensorFlow's kernels; so only operations are here that IEEE 754 defines, or that move bits.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "call.h"
#include "tensorflow/core/framework/node_def.pb.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "tensorflow/core/framework/types.h"

namespace hgqc {
namespace plain {

using tensorflow::DataType;
using tensorflow::TensorShape;

// What is known of a tensor beforehand.
struct Kind {
  DataType type;
  TensorShape shape;
};
using Kinds = std::vector<Kind>;

// How operands lie along an output: axes that all of them walk alike are one.
constexpr int kMostAxes = 8;  // more are left to TensorFlow

template <int N>
class Walk {
 public:
  Walk(const Kinds& operands, const TensorShape& out) {
    for (int axis = out.dims() - 1; axis >= 0; --axis) {
      const int64_t length = out.dim_size(axis);
      if (length == 1) continue;
      std::array<int64_t, N> strides;
      for (int n = 0; n < N; ++n) strides[n] = stride(operands[n].shape, axis - out.dims());
      bool joins = !lengths_.empty();
      for (int n = 0; n < N && joins; ++n) joins = strides[n] == strides_.back()[n] * lengths_.back();
      if (joins) {
        lengths_.back() *= length;
      } else {
        lengths_.push_back(length);
        strides_.push_back(strides);
      }
    }
    if (lengths_.empty()) lengths_.push_back(1), strides_.push_back({});  // the innermost axis is first
  }

  // work(out, offsets, strides, length) for each run along the innermost axis; strides are 0 or 1.
  template <class Work>
  void runs(const Work& work) const {
    std::array<int64_t, N> offsets{};
    std::array<int64_t, kMostAxes> counts{};
    for (int64_t out = 0;; out += lengths_[0]) {
      work(out, offsets, strides_[0], lengths_[0]);
      size_t axis = 1;
      for (; axis < lengths_.size(); ++axis) {
        for (int n = 0; n < N; ++n) offsets[n] += strides_[axis][n];
        if (++counts[axis] < lengths_[axis]) break;
        for (int n = 0; n < N; ++n) offsets[n] -= strides_[axis][n] * lengths_[axis];
        counts[axis] = 0;
      }
      if (axis == lengths_.size()) return;
    }
  }

 private:
  static int64_t stride(const TensorShape& shape, int axis) {  // from the last one, -1
    if (-axis > shape.dims() || shape.dim_size(shape.dims() + axis) == 1) return 0;
    int64_t stride = 1;
    for (int inner = axis + 1; inner < 0; ++inner) stride *= shape.dim_size(shape.dims() + inner);
    return stride;
  }
  std::vector<int64_t> lengths_;
  std::vector<std::array<int64_t, N>> strides_;
};

template <class From, class To, class Function>
class Unary : public Direct {
 public:
  Unary(const Kinds&, const Kinds& made, Function function) : count_(made[0].shape.num_elements()), function_(function) {}
  void call(const Call& call) const override {
    const From* const x = call.in<From>(0);
    To* const out = call.out<To>(0);
    for (int64_t j = 0; j < count_; ++j) out[j] = function_(x[j]);
  }

 private:
  int64_t count_;
  Function function_;
};

template <class From, class To, class Function>
class Binary : public Direct {
 public:
  Binary(const Kinds& given, const Kinds& made, Function function) : walk_(given, made[0].shape), function_(function) {}
  void call(const Call& call) const override {
    walk_.runs([&](int64_t at, const std::array<int64_t, 2>& offsets, const std::array<int64_t, 2>& strides, int64_t n) {
      const From *const x = call.in<From>(0) + offsets[0], *const y = call.in<From>(1) + offsets[1];
      To* const out = call.out<To>(0) + at;
      if (strides[0] && strides[1]) {
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) out[j] = function_(x[j], y[j]);
      } else if (strides[0]) {
        const From same = *y;
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) out[j] = function_(x[j], same);
      } else {
        const From same = *x;
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) out[j] = function_(same, y[j * strides[1]]);
      }
    });
  }

 private:
  Walk<2> walk_;
  Function function_;
};

class Select : public Direct {
 public:
  Select(const Kinds& given, const Kinds& made) : walk_(given, made[0].shape) {}
  void call(const Call& call) const override {
    walk_.runs([&](int64_t at, const std::array<int64_t, 3>& offsets, const std::array<int64_t, 3>& strides, int64_t n) {
      const bool* const where = call.in<bool>(0) + offsets[0];
      const int32_t *const x = call.in<int32_t>(1) + offsets[1], *const y = call.in<int32_t>(2) + offsets[2];  // any type of 32 bits
      int32_t* const out = call.out<int32_t>(0) + at;
      for (int64_t j = 0; j < n; ++j) out[j] = where[j * strides[0]] ? x[j * strides[1]] : y[j * strides[2]];
    });
  }

 private:
  Walk<3> walk_;
};

class Sum : public Direct {  // of whole tensors, one after the other
 public:
  Sum(const Kinds& given, const Kinds& made) : terms_(given.size()), count_(made[0].shape.num_elements()) {}
  void call(const Call& call) const override {
    float* const out = call.out(0);
    const float *const x = call.in(0), *const y = call.in(1);
#pragma GCC ivdep
    for (int64_t j = 0; j < count_; ++j) out[j] = x[j] + y[j];
    for (int term = 2; term < terms_; ++term) {
      const float* const more = call.in(term);
#pragma GCC ivdep
      for (int64_t j = 0; j < count_; ++j) out[j] = out[j] + more[j];
    }
  }

 private:
  int terms_;
  int64_t count_;
};

// A tensor again and again.
class Repeat : public Direct {
 public:
  Repeat(const Kinds& given, const Kinds& made) : count_(made[0].shape.num_elements()), own_(given[0].shape.num_elements()) {}
  void call(const Call& call) const override {
    const int32_t* const x = call.in<int32_t>(0);
    int32_t* const out = call.out<int32_t>(0);
    if (own_ == 1) return (void)std::fill(out, out + count_, *x);
    for (int64_t at = 0; at < count_; at += own_) std::memcpy(out + at, x, 4 * own_);
  }

 private:
  int64_t count_, own_;
};

// Tensors one behind the other.
class Chain : public Direct {
 public:
  Chain(const Kinds& given, const Kinds&) : parts_(given.size()), bytes_(4 * given[0].shape.num_elements()) {}
  void call(const Call& call) const override {
    for (int part = 0; part < parts_; ++part) std::memcpy(call.out<char>(0) + part * bytes_, call.in<char>(part), bytes_);
  }

 private:
  int parts_;
  int64_t bytes_;
};

// The first of the greatest of each row.
template <class To>
class Greatest : public Direct {
 public:
  Greatest(const Kinds& given, const Kinds& made)
      : rows_(made[0].shape.num_elements()), length_(given[0].shape.dim_size(given[0].shape.dims() - 1)) {}
  void call(const Call& call) const override {
    const float* x = call.in(0);
    To* const out = call.out<To>(0);
    for (int64_t row = 0; row < rows_; ++row, x += length_) {
      To best = 0;
      float greatest = std::numeric_limits<float>::lowest();
      for (int64_t j = 0; j < length_; ++j) {
        const bool more = x[j] > greatest;
        greatest = more ? x[j] : greatest, best = more ? (To)j : best;
      }
      out[row] = best;
    }
  }

 private:
  int64_t rows_, length_;
};

using Made = std::unique_ptr<Direct>;
using Maker = std::function<Made(const Kinds& given, const Kinds& made)>;

template <class From, class To, class Function>
Maker unary(Function function) {
  return [=](const Kinds& given, const Kinds& made) { return Made(new Unary<From, To, Function>(given, made, function)); };
}
template <class From, class To, class Function>
Maker binary(Function function) {
  return [=](const Kinds& given, const Kinds& made) { return Made(new Binary<From, To, Function>(given, made, function)); };
}
template <class Op>
Maker plain() {
  return [](const Kinds& given, const Kinds& made) { return Made(new Op(given, made)); };
}

// By type of op, and of its first input and first output.
using Key = std::tuple<std::string, DataType, DataType>;

inline const std::map<Key, Maker>& makers() {
  using tensorflow::DT_BOOL;
  using tensorflow::DT_FLOAT;
  using tensorflow::DT_INT32;
  using tensorflow::DT_INT64;
  static const auto add = [](float a, float b) { return a + b; };
  static const auto divide = [](float a, float b) { return a / b; };
  static const std::map<Key, Maker> all = {
      {{"Add", DT_FLOAT, DT_FLOAT}, binary<float, float>(add)},
      {{"AddV2", DT_FLOAT, DT_FLOAT}, binary<float, float>(add)},
      {{"AddV2", DT_INT32, DT_INT32}, binary<uint32_t, uint32_t>([](uint32_t a, uint32_t b) { return a + b; })},
      {{"AddV2", DT_INT64, DT_INT64}, binary<uint64_t, uint64_t>([](uint64_t a, uint64_t b) { return a + b; })},
      {{"BiasAdd", DT_FLOAT, DT_FLOAT}, binary<float, float>(add)},
      {{"Sub", DT_FLOAT, DT_FLOAT}, binary<float, float>([](float a, float b) { return a - b; })},
      {{"Mul", DT_FLOAT, DT_FLOAT}, binary<float, float>([](float a, float b) { return a * b; })},
      {{"RealDiv", DT_FLOAT, DT_FLOAT}, binary<float, float>(divide)},
      {{"Div", DT_FLOAT, DT_FLOAT}, binary<float, float>(divide)},
      {{"DivNoNan", DT_FLOAT, DT_FLOAT}, binary<float, float>([](float a, float b) { return b == 0.0f ? 0.0f : a / b; })},
      {{"Less", DT_FLOAT, DT_BOOL}, binary<float, bool>([](float a, float b) { return a < b; })},
      {{"LessEqual", DT_FLOAT, DT_BOOL}, binary<float, bool>([](float a, float b) { return a <= b; })},
      {{"Greater", DT_FLOAT, DT_BOOL}, binary<float, bool>([](float a, float b) { return a > b; })},
      {{"GreaterEqual", DT_FLOAT, DT_BOOL}, binary<float, bool>([](float a, float b) { return a >= b; })},
      {{"Equal", DT_FLOAT, DT_BOOL}, binary<float, bool>([](float a, float b) { return a == b; })},
      {{"NotEqual", DT_FLOAT, DT_BOOL}, binary<float, bool>([](float a, float b) { return a != b; })},
      {{"Less", DT_INT32, DT_BOOL}, binary<int32_t, bool>([](int32_t a, int32_t b) { return a < b; })},
      {{"LogicalAnd", DT_BOOL, DT_BOOL}, binary<bool, bool>([](bool a, bool b) { return (bool)(a & b); })},
      {{"LogicalOr", DT_BOOL, DT_BOOL}, binary<bool, bool>([](bool a, bool b) { return (bool)(a | b); })},
      {{"BitwiseAnd", DT_INT32, DT_INT32}, binary<int32_t, int32_t>([](int32_t a, int32_t b) { return a & b; })},
      {{"Neg", DT_FLOAT, DT_FLOAT}, unary<float, float>([](float a) { return -a; })},
      {{"Abs", DT_FLOAT, DT_FLOAT}, unary<float, float>([](float a) { return std::fabs(a); })},
      {{"Sqrt", DT_FLOAT, DT_FLOAT}, unary<float, float>([](float a) { return std::sqrt(a); })},
      {{"Square", DT_FLOAT, DT_FLOAT}, unary<float, float>([](float a) { return a * a; })},
      {{"Relu", DT_FLOAT, DT_FLOAT}, unary<float, float>([](float a) { return a <= 0.0f ? 0.0f : a; })},
      {{"LogicalNot", DT_BOOL, DT_BOOL}, unary<bool, bool>([](bool a) { return !a; })},
      {{"Cast", DT_BOOL, DT_FLOAT}, unary<bool, float>([](bool a) { return (float)a; })},
      {{"Cast", DT_INT32, DT_FLOAT}, unary<int32_t, float>([](int32_t a) { return (float)a; })},
      {{"Cast", DT_INT64, DT_FLOAT}, unary<int64_t, float>([](int64_t a) { return (float)a; })},
      {{"Cast", DT_FLOAT, DT_INT64}, unary<float, int64_t>([](float a) { return (int64_t)a; })},
      {{"Cast", DT_INT32, DT_INT64}, unary<int32_t, int64_t>([](int32_t a) { return (int64_t)a; })},
      {{"SelectV2", DT_BOOL, DT_FLOAT}, plain<Select>()},
      {{"SelectV2", DT_BOOL, DT_INT32}, plain<Select>()},
      {{"AddN", DT_FLOAT, DT_FLOAT}, plain<Sum>()},
      {{"ArgMax", DT_FLOAT, DT_INT32}, plain<Greatest<int32_t>>()},
      {{"ArgMax", DT_FLOAT, DT_INT64}, plain<Greatest<int64_t>>()},
      {{"Pack", DT_FLOAT, DT_FLOAT}, plain<Chain>()},
      {{"Tile", DT_FLOAT, DT_FLOAT}, plain<Repeat>()},
  };
  return all;
}

// Whether an op of a known type is one of the cases that are done here.
inline bool is_plain(const tensorflow::NodeDef& node, const Kinds& given, const Kinds& made) {
  const std::string& type = node.op();
  if (made[0].shape.num_elements() == 0 || made[0].shape.dims() > kMostAxes) return false;
  if (type == "ArgMax") return node.attr().count("_last_axis") && given[0].shape.dims() > 0;  // an axis is an operand: who makes the node says it
  if (type == "AddN") return given.size() > 1 && given.size() < 8;
  if (type == "BiasAdd") return node.attr().at("data_format").s() == "NHWC";
  if (type == "Pack") return node.attr().at("axis").i() == 0;
  if (type == "Tile") {  // of nothing, or along what is the first axis
    int axis = 0;
    while (axis < made[0].shape.dims() - 1 && given[0].shape.dim_size(axis) == 1 && made[0].shape.dim_size(axis) == 1) ++axis;
    bool rest = true;
    for (int other = axis + 1; other < made[0].shape.dims(); ++other) rest &= given[0].shape.dim_size(other) == made[0].shape.dim_size(other);
    return rest || given[0].shape.num_elements() == 1;
  }
  return true;
}

// The op of a node, or null.
inline Made direct(const tensorflow::NodeDef& node, const Kinds& given, const Kinds& made) {
  if (given.empty() || made.empty()) return nullptr;
  const auto found = makers().find({node.op(), given[0].type, made[0].type});
  return found != makers().end() && is_plain(node, given, made) ? found->second(given, made) : nullptr;
}

}  // namespace plain
}  // namespace hgqc
