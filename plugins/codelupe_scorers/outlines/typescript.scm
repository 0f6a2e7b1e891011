; What TypeScript adds to JavaScript.
(class_declaration name: (type_identifier) @name) @type
(abstract_class_declaration name: (type_identifier) @name) @type
(interface_declaration name: (type_identifier) @name) @type
(type_alias_declaration name: (type_identifier) @name) @type
(enum_declaration name: (identifier) @name) @type
(public_field_definition name: (_) @name value: [(arrow_function) (function_expression)]) @function
(abstract_method_signature name: (_) @name) @function
