; What a Python file is made of. See outline.py for what each capture means.
(function_definition name: (identifier) @name) @function
(class_definition name: (identifier) @name) @type

(block) @block

[
  (if_statement)
  (elif_clause)
  (for_statement)
  (while_statement)
  (except_clause)
  (case_clause)
  (conditional_expression)
  (boolean_operator)
  (if_clause)
] @branch

(comment) @comment
(expression_statement . (string) @docstring .)
