(class_declaration name: (identifier) @type.name) @type
(field_definition value: [(arrow_function) (function_expression) (generator_function)] @function)
