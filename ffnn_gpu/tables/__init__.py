"""Files, queries and data frames → typed columns → numbers for a network, and answers back.

embedded_database   the connection to DuckDB, its literals, a temporary folder
table        named columns of rows in it, where the cells of text files stay text
sources      what the user names (a file, a folder, a query, standard input) → Table
text_files   delimited text: dialects, text_encodings and packed_files decide how it is written, plain_text
             who reads it, `odd_numbers` where DuckDB may not parse numbers
parquet, json_lines, databases, many_files, typed_columns    the other sources
frames       data frames, dicts of columns, dicts of rows → Table
plain_numbers    columns of plain numbers in a large text file, stored as numbers
spelling     how cells spell numbers, times, booleans and missing values; decimal_signs and iso_times decide
             which sign is the decimal one and which texts are times of ISO 8601
cells        the cells of a column as numbers, times, truths or levels
scan         the counts that decide kinds, for all columns in few passes
times        in which way a column writes times
kinds        what each column is, with the reason: `words` for texts, `row_ids` for ids, mixed_numbers for
             texts that may be meant as numbers; `columns` is the result, `decisions` what the user says
roles        weights, groups and the order of rows
encoders     the cells of one column → columns of a matrix: scales, levels, codes and cycles
encoder_cells    the cells of a column in the form that its encoder reads
encoding     all columns → a matrix, by encoders fitted on the training rows
unfamiliar   cells of a new table that are unlike all cells of the training rows
rows         rows as x of a data set; `encoded` keeps the matrix of a large table in a file, and `borrowed`
             one that another process made
numbers      columns of numbers → a matrix, for models trained on arrays
targets      the column to predict → labels or numbers
answers      predictions → CSV, Parquet, JSON lines, .npy
inspection   what a table holds, and how it will be encoded
concerns     what may go wrong with it: `leaks`, misspelt classes and others
"""
