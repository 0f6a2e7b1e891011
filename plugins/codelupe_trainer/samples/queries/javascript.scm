(field_definition value: (_ body: (statement_block "{" @open) @body)) @method
