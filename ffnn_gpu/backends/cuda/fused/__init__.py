"""A stack of narrow Dense layers in one kernel: a prediction, or the loss and all gradients of a step.

waiting                                           operations of a pass that are not issued yet
recognition                                       what they must be to be one kernel
stack                                             its layers, its text and the memory that it needs
launches                                          its launches, and the choice between it and the operations
dense_stack.cuh, dense_stack_gradients.cuh        the kernels; dense_stack.cuh explains both
losses.cuh, dropout.cuh, dense_stack_sums.cuh     parts of the second one, and what follows it
matrices.cuh                                      products on tensor cores
"""
