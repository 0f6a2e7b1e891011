; What a JavaScript file is made of, and most of a TypeScript file. See outline.py for what each capture means.
(function_declaration name: (identifier) @name) @function
(generator_function_declaration name: (identifier) @name) @function
(method_definition name: (_) @name) @function
(variable_declarator name: (identifier) @name value: [(arrow_function) (function_expression) (generator_function)]) @function
(assignment_expression left: (_) @name right: [(arrow_function) (function_expression) (generator_function)]) @function
(pair key: (_) @name value: [(arrow_function) (function_expression) (generator_function)]) @function

[(statement_block) (switch_body)] @block

[
  (if_statement)
  (for_statement)
  (for_in_statement)
  (while_statement)
  (do_statement)
  (switch_case)
  (catch_clause)
  (ternary_expression)
  (binary_expression operator: ["&&" "||" "??"])
] @branch

(comment) @comment
(decorator) @decoration
