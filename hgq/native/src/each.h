// A part of a graph done for each of many models: TensorFlow's own kernels (and those here), called one after the other on a model's part of
// stacked tensors. What a kernel gives is what it gives in a graph of one model, to the last bit. What is spared is all around it: queues of
// an executor, slices, packs, and threads that wait for each other. A model's tensors are still in the caches when the next kernel reads them.
#pragma once
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#define EIGEN_USE_THREADS
#include "tensorflow/core/framework/device_base.h"
#include "tensorflow/core/framework/graph.pb.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/platform/threadpool.h"
#include "unsupported/Eigen/CXX11/Tensor"

namespace hgqc {
namespace each {

using tensorflow::AllocatorAttributes;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::TensorValue;
using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::InferenceContext;

// "Threads" that work at once, where they are asked to. There seem to be as many as TensorFlow has: upon their number depends how a kernel cuts
// its work, and so the order of its sums. Nothing waits, so models can be given to the real threads.
class AtOnce : public tensorflow::thread::ThreadPoolInterface {
 public:
  explicit AtOnce(int threads) : threads_(threads) {}
  void Schedule(std::function<void()> work) override { work(); }
  int NumThreads() const override { return threads_; }
  int CurrentThreadId() const override { return -1; }

 private:
  int threads_;
};

// The CPU as kernels see it, with these threads.
class Device : public tensorflow::DeviceBase {
 public:
  explicit Device(tensorflow::DeviceBase* real)
      : DeviceBase(real->env()), real_(real), at_once_(real->tensorflow_cpu_worker_threads()->num_threads), workers_(&at_once_),
        eigen_(&at_once_, at_once_.NumThreads()) {
    threads_.num_threads = at_once_.NumThreads();
    threads_.workers = &workers_;
    set_tensorflow_cpu_worker_threads(&threads_);
    set_eigen_cpu_device(&eigen_);
  }
  tensorflow::Allocator* GetAllocator(AllocatorAttributes attributes) override { return real_->GetAllocator(attributes); }
  tensorflow::Status MakeTensorFromProto(const tensorflow::TensorProto& proto, const AllocatorAttributes attributes, Tensor* tensor) override {
    return real_->MakeTensorFromProto(proto, attributes, tensor);  // constants
  }
  const tensorflow::DeviceAttributes& attributes() const override { return real_->attributes(); }
  const std::string& name() const override { return real_->name(); }
  const tensorflow::DeviceNameUtils::ParsedName& parsed_name() const override { return real_->parsed_name(); }
  const std::string& device_type() const override { return real_->device_type(); }
  tensorflow::DeviceBase* UnderlyingDevice() override { return real_; }
  const tensorflow::DeviceBase* UnderlyingDevice() const override { return real_; }

 private:
  tensorflow::DeviceBase* const real_;
  AtOnce at_once_;
  tensorflow::thread::ThreadPool workers_;
  Eigen::ThreadPoolDevice eigen_;
  CpuWorkerThreads threads_;
};

REGISTER_OP("HgqcEach")
    .Input("inputs: given")
    .Output("outputs: made")
    .Attr("given: list(type) >= 1")
    .Attr("made: list(type) >= 1")
    .Attr("models: int >= 1")
    .Attr("shared: list(bool)")
    .Attr("nodes: string")
    .Attr("results: list(int)")
    .Attr("shapes: list(shape)")
    .SetShapeFn([](InferenceContext* c) {
      int64_t models;
      std::vector<tensorflow::PartialTensorShape> shapes;
      TF_RETURN_IF_ERROR(c->GetAttr("models", &models));
      TF_RETURN_IF_ERROR(c->GetAttr("shapes", &shapes));
      if ((int)shapes.size() != c->num_outputs()) return tensorflow::Status(InvalidArgument("not one shape for each output"));
      for (size_t output = 0; output < shapes.size(); ++output) {
        tensorflow::shape_inference::ShapeHandle one, all;
        TF_RETURN_IF_ERROR(c->MakeShapeFromPartialTensorShape(shapes[output], &one));
        TF_RETURN_IF_ERROR(c->Concatenate(c->Vector(models), one, &all));
        c->set_output(output, all);
      }
      return tensorflow::Status();
    });

// One kernel, and the slots that it reads and writes.
struct Node {
  std::unique_ptr<OpKernel> kernel;
  std::vector<int> inputs;
  std::vector<bool> last;  // nobody reads this slot any more: the kernel may write over it
  int first, outputs;
};

// `nodes`: a GraphDef, in the order of execution. Tensors are slots: those of the inputs first, then the outputs of each node; a node's
// `input` are numbers of slots. `shared`: inputs that are the same for all models; others, and all outputs, hold the models along their first
// axis. `results`: the slots that are the outputs, `shapes`: theirs in one model.
class EachOp : public OpKernel {
 public:
  explicit EachOp(OpKernelConstruction* context) : OpKernel(context), device_(static_cast<tensorflow::DeviceBase*>(context->device())) {
    std::string text;
    std::vector<tensorflow::PartialTensorShape> shapes;
    OP_REQUIRES_OK(context, context->GetAttr("models", &models_));
    OP_REQUIRES_OK(context, context->GetAttr("shared", &shared_));
    OP_REQUIRES_OK(context, context->GetAttr("nodes", &text));
    OP_REQUIRES_OK(context, context->GetAttr("results", &results_));
    OP_REQUIRES_OK(context, context->GetAttr("shapes", &shapes));
    OP_REQUIRES(context, (int)shared_.size() == context->num_inputs(), InvalidArgument("not one word for each input"));
    OP_REQUIRES(context, results_.size() == shapes.size() && (int)shapes.size() == context->num_outputs(),
                InvalidArgument("not one result for each output"));
    for (const auto& shape : shapes) {
      TensorShape whole;
      OP_REQUIRES(context, shape.AsTensorShape(&whole), InvalidArgument("an output of unknown shape"));
      shapes_.push_back(whole);
      whole.InsertDim(0, models_);
      stacks_.push_back(whole);
    }
    tensorflow::GraphDef graph;
    OP_REQUIRES(context, graph.ParseFromString(text), InvalidArgument("no GraphDef"));
    slots_ = context->num_inputs();
    for (const auto& definition : graph.node()) {
      Node node;
      for (const std::string& slot : definition.input()) {
        node.inputs.push_back(std::stoi(slot));
        OP_REQUIRES(context, node.inputs.back() >= 0 && node.inputs.back() < slots_, InvalidArgument(definition.name(), " reads slot ", slot));
      }
      tensorflow::Status status;
      node.kernel = tensorflow::CreateOpKernel(tensorflow::DeviceType(tensorflow::DEVICE_CPU), &device_,
                                               device_.GetAllocator(AllocatorAttributes()), definition, context->graph_def_version(), &status);
      OP_REQUIRES_OK(context, status);
      OP_REQUIRES(context, node.kernel->AsAsync() == nullptr && node.kernel->num_inputs() == (int)node.inputs.size(),
                  InvalidArgument(definition.op(), " cannot be called here"));
      node.first = slots_;
      node.outputs = node.kernel->num_outputs();
      slots_ += node.outputs;
      most_ = std::max<size_t>(most_, std::max<size_t>(node.outputs, node.inputs.size()));
      nodes_.push_back(std::move(node));
    }
    std::vector<bool> needed(slots_, false);
    for (int slot : results_) {
      OP_REQUIRES(context, slot >= 0 && slot < slots_, InvalidArgument("no slot ", slot));
      needed[slot] = true;
    }
    for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) {
      node->last.assign(node->inputs.size(), false);
      for (size_t input = node->inputs.size(); input-- > 0;) {
        const int slot = node->inputs[input];
        node->last[input] = !needed[slot];  // of two equal inputs, one is not the last: it keeps the other one from being written over
        needed[slot] = true;
      }
    }
    attributes_.resize(most_);
  }

  void Compute(OpKernelContext* context) override {
    for (int input = 0; input < context->num_inputs(); ++input) {
      const Tensor& whole = context->input(input);
      OP_REQUIRES(context, shared_[input] || (whole.dims() > 0 && whole.dim_size(0) == models_),
                  InvalidArgument("input ", input, " of shape ", whole.shape().DebugString(), " does not hold ", models_, " models"));
    }
    std::vector<Tensor*> outputs(results_.size());
    for (size_t output = 0; output < outputs.size(); ++output)
      OP_REQUIRES_OK(context, context->allocate_output(output, stacks_[output], &outputs[output]));
    std::vector<tensorflow::Status> states(models_);
    auto* const threads = context->device()->tensorflow_cpu_worker_threads();
    threads->workers->ParallelFor(models_, 1000000, [&](int64_t from, int64_t to) {
      for (int64_t model = from; model < to; ++model) states[model] = run(context, model, outputs);
    });
    for (const auto& state : states) OP_REQUIRES_OK(context, state);
  }

 private:
  tensorflow::Status run(OpKernelContext* context, int64_t model, const std::vector<Tensor*>& outputs) {
    std::vector<Tensor> slots(slots_), held(most_);
    std::vector<TensorValue> values(most_);
    for (int input = 0; input < context->num_inputs(); ++input)
      slots[input] = shared_[input] ? context->input(input) : aligned(context->input(input).SubSlice(model));
    OpKernelContext::Params params;
    params.step_id = context->step_id();
    params.device = &device_;
    params.resource_manager = context->resource_manager();
    params.step_container = context->step_container();
    params.cancellation_manager = context->cancellation_manager();
    params.session_config = context->session_config();
    params.runner = context->runner();
    params.output_attr_array = attributes_.data();
    for (const Node& node : nodes_) {
      const size_t count = node.inputs.size();
      for (size_t input = 0; input < count; ++input) {
        Tensor& slot = slots[node.inputs[input]];
        held[input] = node.last[input] ? std::move(slot) : slot;
        values[input] = TensorValue(&held[input]);
      }
      params.op_kernel = node.kernel.get();
      params.inputs = absl::MakeConstSpan(values.data(), count);
      params.input_alloc_attrs = absl::MakeConstSpan(attributes_.data(), count);
      OpKernelContext one(&params, node.outputs);
      node.kernel->Compute(&one);
      if (!one.status().ok()) return one.status();
      for (int output = 0; output < node.outputs; ++output) {
        const TensorValue made = one.release_output(output);
        if (made.tensor == nullptr) continue;  // an output that the kernel leaves out
        slots[node.first + output] = std::move(*made.tensor);
        delete made.tensor;
      }
      for (size_t input = 0; input < count; ++input) held[input] = Tensor();
    }
    for (size_t output = 0; output < outputs.size(); ++output) {
      const Tensor& made = slots[results_[output]];
      if (made.shape() != shapes_[output] || made.dtype() != outputs[output]->dtype())
        return InvalidArgument("output ", output, " is of shape ", made.shape().DebugString(), ", not ", shapes_[output].DebugString());
      const size_t bytes = made.TotalBytes();
      if (bytes) std::memcpy(static_cast<char*>(outputs[output]->data()) + model * bytes, made.data(), bytes);
    }
    return tensorflow::Status();
  }

  // Kernels read whole vectors.
  Tensor aligned(Tensor part) {
    if (part.IsAligned()) return part;
    Tensor copy(device_.GetAllocator(AllocatorAttributes()), part.dtype(), part.shape());
    std::memcpy(copy.data(), part.data(), part.TotalBytes());
    return copy;
  }

  Device device_;
  int models_, slots_ = 0;
  size_t most_ = 0;
  std::vector<bool> shared_;
  std::vector<int> results_;
  std::vector<TensorShape> shapes_, stacks_;
  std::vector<Node> nodes_;
  std::vector<AllocatorAttributes> attributes_;
};
REGISTER_KERNEL_BUILDER(Name("HgqcEach").Device(tensorflow::DEVICE_CPU), EachOp);

}  // namespace each
}  // namespace hgqc
