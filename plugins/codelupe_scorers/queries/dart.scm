(function_body) @body
[(function_signature) (method_signature)] @signature
(class_definition name: (identifier) @type.name) @type
(enum_declaration name: (identifier) @type.name) @type
(extension_declaration name: (identifier) @type.name) @type
(mixin_declaration (identifier) @type.name) @type
[(type_alias) (extension_type_declaration)] @type
[(block) (switch_block)] @block
[
  (if_statement) (if_element) (for_statement) (for_element) (while_statement) (do_statement)
  (switch_statement_case) (switch_expression_case) (catch_clause) (conditional_expression)
  (logical_and_operator) (logical_or_operator)
] @branch
[(comment) (documentation_comment)] @comment
(annotation) @decoration
(ERROR) @error

(function_signature name: (identifier) @function.name)
(getter_signature name: (identifier) @function.name)
(initialized_variable_definition name: (identifier) @variable.name)
(initialized_identifier (identifier) @variable.name)
(static_final_declaration (identifier) @constant.name)

(import_or_export) @import
(import_or_export (_ (import_specification (configurable_uri (uri (string_literal) @import.source)))))
(import_or_export (library_export (configurable_uri (uri (string_literal) @import.source))))
