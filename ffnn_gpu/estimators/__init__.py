"""Raw rows → labels, probabilities or numbers.

model    a network with its standardization, columns, task and labels
inputs   how the columns of raw rows become the matrix that the network reads
task     what the targets mean: classes, several labels, numbers
"""
