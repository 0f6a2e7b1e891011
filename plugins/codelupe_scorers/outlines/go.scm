; What a Go file is made of. See outline.py for what each capture means.
(function_declaration name: (identifier) @name) @function
(method_declaration name: (field_identifier) @name) @function
(type_spec name: (type_identifier) @name) @type

(block) @block

[
  (if_statement)
  (for_statement)
  (expression_case)
  (type_case)
  (communication_case)
  (binary_expression operator: ["&&" "||"])
] @branch

(comment) @comment
