; JavaScript's classes, whose names and fields TypeScript's grammar calls otherwise.
(class_declaration name: (identifier) @name) @type
(field_definition property: (_) @name value: [(arrow_function) (function_expression)]) @function
