"""Files, queries and data frames → typed columns → numbers for a network, and answers back.

table            named columns of rows in an embedded database, where the cells of text files stay text
sources          what the user names (a file, a folder, a query, standard input) → Table
text_files       delimited text: dialects, text_encodings and packed_files decide how it is written,
                 plain_text who reads it
parquet, json_lines, databases, many_files, typed_columns    the other sources
spelling         how cells spell numbers, times, booleans and missing values
kinds            what each column is, with the reason, and what the user decided otherwise
encoding         columns → a matrix: scales, levels and cycles fitted on the training rows
rows, encoded    rows as x of a data set; the matrix of a large table in a file
targets          the column to predict → labels or numbers
"""
