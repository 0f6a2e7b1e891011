(
  [(function_signature) (getter_signature) (setter_signature)] @function
  . (function_body (block "{" @open) @body)
)
((method_signature) @method . (function_body (block "{" @open) @body))
(class_definition body: (class_body "{" @open) @body) @class
(mixin_declaration (class_body "{" @open) @body) @mixin
(extension_declaration body: (extension_body "{" @open) @body) @extension
(enum_declaration body: (enum_body "{" @open) @body) @enum
[(comment) (documentation_comment)] @comment
(annotation) @decoration
(import_or_export) @import
