"""Files and arrays → minibatches.

readers                  a data set of numbers from a name or a file; array_files reads the formats
labels                   label names ↔ class indices
standardizer             column means and scales, fitted on the training rows
splits                   random, stratified division of rows
minibatches              the order of the rows in an epoch, and the rows of each minibatch
"""
