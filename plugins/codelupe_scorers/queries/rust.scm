(function_item name: (identifier) @function.name) @function
(function_signature_item name: (identifier) @function.name) @function
(struct_item name: (type_identifier) @type.name) @type
(enum_item name: (type_identifier) @type.name) @type
(union_item name: (type_identifier) @type.name) @type
(trait_item name: (type_identifier) @type.name) @type
(type_item name: (type_identifier) @type.name) @type
(enum_variant name: (identifier) @type.name)
(macro_definition) @type
[(impl_item) (mod_item)] @container
[(block) (match_block)] @block
[
  (if_expression) (for_expression) (while_expression) (loop_expression) (match_arm) "&&" "||"
] @branch
[(line_comment) (block_comment)] @comment
(attribute_item) @decoration
(ERROR) @error

(let_declaration pattern: (identifier) @variable.name)
(const_item name: (identifier) @constant.name)
(static_item name: (identifier) @constant.name)

(use_declaration) @import
(use_declaration argument: (scoped_identifier path: [(crate) (super)] @import.near))
(use_declaration argument: (scoped_use_list path: [(crate) (super)] @import.near))
(use_declaration argument: (scoped_identifier path: (scoped_identifier path: [(crate) (super)] @import.near)))
(use_declaration argument: (scoped_use_list path: (scoped_identifier path: [(crate) (super)] @import.near)))
(use_wildcard) @import.wildcard
