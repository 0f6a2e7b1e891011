; What a Dart file is made of. See outline.py for what each capture means.
; The signature and the body of a function are siblings: the body stands for both.
(function_body) @function
(function_signature name: (identifier) @name)
(getter_signature name: (identifier) @name)
(setter_signature name: (identifier) @name)
(class_definition name: (identifier) @name) @type
(mixin_declaration (identifier) @name) @type
(enum_declaration name: (identifier) @name) @type
(extension_declaration) @type
(type_alias (type_identifier) @name) @type

[(block) (switch_block)] @block

[
  (if_statement)
  (if_element)
  (for_statement)
  (for_element)
  (while_statement)
  (do_statement)
  (switch_statement_case)
  (switch_expression_case)
  (catch_clause)
  (conditional_expression)
  (logical_and_expression)
  (logical_or_expression)
] @branch

[(comment) (documentation_comment)] @comment
(annotation) @decoration
