; What JavaScript and TypeScript have in common.
(function_declaration body: (statement_block "{" @open) @body) @function
(generator_function_declaration body: (statement_block "{" @open) @body) @function
(variable_declarator value: (_ body: (statement_block "{" @open) @body)) @function
(assignment_expression right: (_ body: (statement_block "{" @open) @body)) @function
(pair value: (_ body: (statement_block "{" @open) @body)) @function
(method_definition body: (statement_block "{" @open) @body) @method
(class_declaration body: (class_body "{" @open) @body) @class
(comment) @comment
(decorator) @decoration
(import_statement) @import
(lexical_declaration
  (variable_declarator value: (call_expression function: (identifier) @require))
  (#eq? @require "require")) @import
