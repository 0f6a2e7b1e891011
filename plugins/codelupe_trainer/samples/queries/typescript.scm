(public_field_definition value: (_ body: (statement_block "{" @open) @body)) @method
(abstract_class_declaration body: (class_body "{" @open) @body) @class
(interface_declaration body: (_ "{" @open) @body) @interface
(enum_declaration body: (enum_body "{" @open) @body) @enum
[
  (internal_module body: (statement_block "{" @open) @body)
  (module body: (statement_block "{" @open) @body)
] @scope
