// An op's tensors as raw memory. Ops that are called so need no context of TensorFlow: TensorFlow's own kernels are wrapped around them, and
// a program (program.h) calls them without.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/platform/threadpool.h"

namespace hgqc {

using Threads = tensorflow::thread::ThreadPool;

struct Call {
  using Shapes = const tensorflow::TensorShape* const*;

  const void* const* inputs;
  Shapes given;
  void* const* outputs;
  Shapes made;
  Threads* threads = nullptr;  // null: all is done by the thread that calls

  int64_t size(int n) const { return given[n]->num_elements(); }

  template <class T = float>
  const T* in(int n) const {
    return static_cast<const T*>(inputs[n]);
  }
  template <class T = float>
  T* out(int n) const {
    return static_cast<T*>(outputs[n]);
  }
};

class Direct {
 public:
  virtual ~Direct() = default;
  virtual void call(const Call& call) const = 0;
};

// What Compute of a TensorFlow kernel does for an op that can be called: `outputs` of these shapes, or, where given, the input of this number if
// nobody else reads it.
inline void compute(tensorflow::OpKernelContext* context, const Direct& op, std::initializer_list<tensorflow::TensorShape> shapes,
                    int in_place = -1) {
  std::vector<const void*> inputs;
  std::vector<const tensorflow::TensorShape*> given, made;
  std::vector<void*> outputs;
  for (int n = 0; n < context->num_inputs(); ++n) {
    inputs.push_back(context->input(n).data());
    given.push_back(&context->input(n).shape());
  }
  for (const auto& shape : shapes) {
    tensorflow::Tensor* output;
    const int n = outputs.size();
    if (n == 0 && in_place >= 0)
      OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({in_place}, 0, shape, &output));
    else
      OP_REQUIRES_OK(context, context->allocate_output(n, shape, &output));
    outputs.push_back(output->data());
    made.push_back(&output->shape());
  }
  op.call({inputs.data(), given.data(), outputs.data(), made.data(), context->device()->tensorflow_cpu_worker_threads()->workers});
}

}  // namespace hgqc
