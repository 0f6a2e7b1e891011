(function_definition ":" @open body: (block) @body) @function
(class_definition ":" @open body: (block) @body) @class
(block . (expression_statement . (string) @docstring .))
(comment) @comment
(decorator) @decoration
[(import_statement) (import_from_statement) (future_import_statement)] @import
