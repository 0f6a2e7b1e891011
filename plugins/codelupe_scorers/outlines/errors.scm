; Where the text does not fit the grammar.
(ERROR) @error
(MISSING) @error
