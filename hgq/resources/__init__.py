"""What a network costs in hardware.

The formulas here work on any array type: training calls them with TensorFlow tensors that carry gradients, `hgq.estimate` with NumPy
integers. Nothing in this package imports either Keras or TensorFlow.
"""
