"""The command `ffnn-gpu`. `commands` defines it and imports each other file only where it is needed.

train, tune                         train on a data set; search for settings
tune_command, export                the commands `tune` and `export`
report_command, record              the commands `report` and `compare`; what they read of a run folder
watching                            the server of `train --watch`
fitting, ensemble                   what trains one network or an ensemble into a run folder
settings, flags                     flags, TOML and environment → one configuration
run_folder, result, plots           what a run writes
saved_result                        result.json, read again and checked
reading, shared_table               what DATA and INPUT name → rows and targets; of a table for all ranks
inspection                          the table that `ffnn-gpu inspect` prints
messages, info, model_info          what the command prints
exit_codes, standard_streams        where it prints, and the code it ends with
"""
