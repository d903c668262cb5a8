"""Raw rows → labels, probabilities or numbers.

model          a network with its standardization, columns, task and labels
inputs         how the columns of raw rows become the matrix that the network reads
task           what the targets mean: classes, several labels, numbers
settings       every setting of a training run
training_data  a table and settings → targets, kinds and roles of its columns
split          training, validation and test rows
recipe         settings → network, optimizer and training
train_table    all of these in one call
"""
