; What JavaScript and TypeScript have in common.
(function_declaration name: (identifier) @function.name) @function
(generator_function_declaration name: (identifier) @function.name) @function
(method_definition name: (_) @function.name) @function
(variable_declarator value: [(arrow_function) (function_expression) (generator_function)] @function)
(assignment_expression right: [(arrow_function) (function_expression) (generator_function)] @function)
(pair value: [(arrow_function) (function_expression) (generator_function)] @function)
[(statement_block) (switch_body)] @block
[
  (if_statement) (for_statement) (for_in_statement) (while_statement) (do_statement) (switch_case)
  (catch_clause) (ternary_expression) "&&" "||" "??"
] @branch
[(comment) (html_comment)] @comment
(decorator) @decoration
(ERROR) @error

(variable_declarator name: (identifier) @variable.name)

(import_statement source: (string) @import.source) @import
(export_statement source: (string) @import.source) @import
(variable_declarator value: (call_expression function: (identifier) @require arguments: (arguments . (string) @import.source .))
  (#eq? @require "require")) @import
