"""A stack of narrow Dense layers in one kernel: a prediction, or the loss and all gradients of a step.

waiting                                           operations of a pass that are not issued yet
stack                                             what such operations must be to be one kernel, and its text
launches                                          its launches, and the choice between it and the operations
dense_stack.cuh, dense_stack_gradients.cuh        the kernel
matrices.cuh                                      products on tensor cores
"""
