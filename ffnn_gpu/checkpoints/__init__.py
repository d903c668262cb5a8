"""A network or a training run ↔ one file that is always complete.

checkpoint     save and load: what the file holds
tensor_file    arrays and JSON values ↔ one checksummed safetensors file
atomic_file    write a file so that it is the old one or the new one, whatever happens
json_values    values ↔ JSON without NaN and Infinity
architecture   layers ↔ JSON
old_format     read the folders that earlier versions wrote
"""
