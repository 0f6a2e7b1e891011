; What a Rust file is made of. See outline.py for what each capture means.
(function_item name: (identifier) @name) @function
(function_signature_item name: (identifier) @name) @function
(struct_item name: (type_identifier) @name) @type
(enum_item name: (type_identifier) @name) @type
(union_item name: (type_identifier) @name) @type
(trait_item name: (type_identifier) @name) @type
(type_item name: (type_identifier) @name) @type
(macro_definition name: (identifier) @name) @type
(impl_item) @container

[(block) (match_block)] @block

[
  (if_expression)
  (for_expression)
  (while_expression)
  (loop_expression)
  (match_arm)
  (binary_expression operator: ["&&" "||"])
] @branch

[(line_comment) (block_comment)] @comment
(attribute_item) @decoration
