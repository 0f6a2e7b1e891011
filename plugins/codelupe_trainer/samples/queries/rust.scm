(function_item body: (block "{" @open) @body) @function
(struct_item body: (field_declaration_list "{" @open) @body) @struct
(enum_item body: (enum_variant_list "{" @open) @body) @enum
(trait_item body: (declaration_list "{" @open) @body) @trait
[(impl_item body: (declaration_list "{" @open) @body) (mod_item body: (declaration_list "{" @open) @body)] @scope
[(line_comment) (block_comment)] @comment
(attribute_item) @decoration
[(use_declaration) (extern_crate_declaration)] @import
