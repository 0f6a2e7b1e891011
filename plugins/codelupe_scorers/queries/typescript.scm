[(abstract_method_signature) (function_signature)] @function
(class_declaration name: (type_identifier) @type.name) @type
(abstract_class_declaration name: (type_identifier) @type.name) @type
(interface_declaration name: (type_identifier) @type.name) @type
(type_alias_declaration name: (type_identifier) @type.name) @type
(enum_declaration name: (identifier) @type.name) @type
(public_field_definition value: [(arrow_function) (function_expression) (generator_function)] @function)
[(internal_module) (module)] @container
