"""Arrays and files → minibatches: readers, labels as class indices, standardization, splits, minibatches."""
