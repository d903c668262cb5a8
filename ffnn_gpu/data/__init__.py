"""Files and arrays → minibatches.

readers                  a data set from a name or a file; array_files and csv_files read one format each
labels                   label names ↔ class indices
standardizer             column means and scales, fitted on the training rows
splits                   random, stratified division of rows
minibatches              the order of the rows in an epoch, and the rows of each minibatch
"""
