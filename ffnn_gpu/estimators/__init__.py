"""Raw rows → labels, probabilities or numbers.

model   a network with its standardization, columns, task and labels
task    what the targets mean: classes, several labels, numbers
"""
