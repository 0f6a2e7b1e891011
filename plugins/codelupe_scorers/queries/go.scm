(function_declaration name: (identifier) @function.name) @function
(method_declaration name: (field_identifier) @function.name) @function
(type_spec name: (type_identifier) @type.name) @type
(block) @block
[
  (if_statement) (for_statement) (expression_case) (type_case) (communication_case) "&&" "||"
] @branch
(comment) @comment
(ERROR) @error

(short_var_declaration left: (expression_list (identifier) @variable.name))
(var_spec name: (identifier) @variable.name)
(const_spec name: (identifier) @constant.name)

(import_spec) @import
(import_spec name: (dot) @import.wildcard)
