(function_definition name: (identifier) @function.name) @function
(class_definition name: (identifier) @type.name) @type
(block) @block
[
  (if_statement) (elif_clause) (for_statement) (while_statement) (except_clause) (case_clause)
  (conditional_expression) (if_clause) "and" "or"
] @branch
(comment) @comment
(expression_statement . (string) @docstring .)
(ERROR) @error

(assignment left: (identifier) @variable.name)

[(import_statement) (import_from_statement)] @import
(relative_import) @import.near
(wildcard_import) @import.wildcard
