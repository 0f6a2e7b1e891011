(function_declaration body: (block "{" @open) @body) @function
(method_declaration body: (block "{" @open) @body) @method
(type_spec type: (struct_type (field_declaration_list "{" @open) @body)) @struct
(type_spec type: (interface_type "{" @open) @body) @interface
(comment) @comment
[(package_clause) (import_declaration)] @import
