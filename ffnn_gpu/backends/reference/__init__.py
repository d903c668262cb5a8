"""The specification: each operation as its formula, for any array module. Tests compare the other backends
with it.

backend                  every operation, under its formula
losses, softmax          losses with their gradients; softmax and its adjoint
normalization            layer and batch normalization with their adjoints
updates                  the rules of the optimizers, momentum included
step_control             gradient clipping, loss scale
members                  every operation for the members of a pack
philox, special          random bits of dropout; erf and its kin
"""
