/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that does what no driver does: pseudo-random values, from the seed in the last
 * four bytes of the file, into all I/O ports, PCI configuration, memory behind BARs wherever it
 * has moved them, and rings in its own memory that devices then walk. It never stops by its own
 * will. The shape is that of tiny.S.
 */
	.code32
	.text
	.globl _start
_start:
	.org 0x1f1
	.byte 1
	.org 0x1fe
	.word 0xaa55
	.byte 0xeb, 0x66
	.ascii "HdrS"
	.word 0x020f
	.org 0x211
	.byte 1
	.org 0x214
	.long 0x100000
	.org 0x22c
	.long 0x7fffffff
	.org 0x238
	.long 255
	.org 0x258
	.quad 0x100000
	.long 8192

	.org 0x400			/* at 1 MiB: 32-bit entry, no paging */
	movl $0x1f0000, %esp
	movl 0x1003fc, %ebp		/* the state of the generator, never 0 */
	movw $0x3f8, %dx
	movb $'\n', %al
	outb %al, %dx

again:
	call random
	movl %eax, %ecx
	shrl $29, %ecx
	jz ports
	decl %ecx
	jz ring
	decl %ecx
	jz config
	decl %ecx
	jz enable
	decl %ecx
	jz bring_up
	jmp device

/* Any port but those that end the machine; any width, both ways. */
ports:
	call random
	movl %eax, %edx
	andl $0xffff, %edx
	testl $0x10000, %eax
	jz 1f
	andl $0xfff, %edx
1:	cmpw $0x64, %dx
	je again
	cmpw $0x92, %dx
	je again
	cmpw $0xcf9, %dx
	je again
	movl %edx, %eax
	andl $0xfffc, %eax
	cmpl $0x604, %eax
	je again
	call random
	pushl %eax
	call value
	popl %ecx
	shrl $29, %ecx
	cmpl $1, %ecx
	jb 2f
	je 3f
	cmpl $3, %ecx
	jb 4f
	je 5f
	cmpl $5, %ecx
	jb 6f
	inb %dx, %al
	jmp again
2:	outb %al, %dx
	jmp again
3:	outw %ax, %dx
	jmp again
4:	outl %eax, %dx
	jmp again
5:	inl %dx, %eax
	jmp again
6:	inw %dx, %ax
	jmp again

/* Words of what devices may take for a ring: many, for all else takes an exit and is slow. */
ring:
	movl $256, %ecx
1:	call random
	andl $0xfffc, %eax
	movl %eax, %edi
	call value
	movl %eax, 0x200000(%edi)
	loop 1b
	jmp again

/* %edi: a random device of the first eight as an address for 0xcf8. */
pick:
	call random
	andl $0x3800, %eax
	orl $0x80000000, %eax
	movl %eax, %edi
	ret

config:
	call pick
	call random
	pushl %eax
	andl $0xfc, %eax
	testl $0x10000, (%esp)
	jz 1f
	andl $0x1c, %eax		/* BARs and what is near more often */
	orl $0x10, %eax
1:	orl %edi, %eax
	movw $0xcf8, %dx
	outl %eax, %dx
	call value
	popl %ecx
	movl %ecx, %edx
	andl $3, %edx
	addl $0xcfc, %edx
	shrl $30, %ecx
	jz 2f
	decl %ecx
	jz 3f
	outl %eax, %dx
	jmp again
2:	outb %al, %dx
	jmp again
3:	outw %ax, %dx
	jmp again

/* Memory, I/O and bus mastering on: what was turned off by chance works again. */
enable:
	call pick
	movl %edi, %eax
	orl $4, %eax
	movw $0xcf8, %dx
	outl %eax, %dx
	movl $7, %eax
	movw $0xcfc, %dx
	outl %eax, %dx
	call random
	shrl $30, %eax
	jnz again
	movl %edi, %eax			/* and its BAR is where it can be reached */
	orl $0x14, %eax
	movw $0xcf8, %dx
	outl %eax, %dx
	xorl %eax, %eax
	movw $0xcfc, %dx
	outl %eax, %dx
	movl %edi, %eax
	orl $0x10, %eax
	movw $0xcf8, %dx
	outl %eax, %dx
	movl %edi, %eax
	andl $0x3800, %eax
	shll $4, %eax
	orl $0xe0000000, %eax
	movw $0xcfc, %dx
	outl %eax, %dx
	jmp again

/*
 * A device as a driver would have it, with some of its features, but for the rings: those are
 * wherever, and hold whatever.
 */
bring_up:
	call pick
	movl %edi, %eax
	orl $0x10, %eax
	movw $0xcf8, %dx
	outl %eax, %dx
	movw $0xcfc, %dx
	inl %dx, %eax
	andl $0xfffffff0, %eax
	cmpl $0x10000000, %eax
	jb again
	movl %eax, %edi
	movb $0, 0x14(%edi)
	movb $3, 0x14(%edi)
	movl $0, (%edi)
	movl $0, 8(%edi)
	call random
	andl 4(%edi), %eax
	movl %eax, 12(%edi)
	movl $1, 8(%edi)
	movl $1, 12(%edi)
	movb $11, 0x14(%edi)
	call random
	andw $1, %ax
	movw %ax, 0x16(%edi)
	movl $0x20, %ecx
1:	call random
	andl $0xfff0, %eax
	orl $0x200000, %eax
	movl %eax, (%edi,%ecx)
	movl $0, 4(%edi,%ecx)
	addl $8, %ecx
	cmpl $0x38, %ecx
	jb 1b
	movw $1, 0x1c(%edi)
	movb $15, 0x14(%edi)
	movl $0x3000, %ecx
2:	movw $0, (%edi,%ecx)
	addl $4, %ecx
	cmpl $0x3010, %ecx
	jb 2b
	jmp again

/* A register behind a BAR, wherever it is now: writes of each width, reads, odd addresses. */
device:
	call pick
	movl %edi, %eax
	orl $0x10, %eax
	movw $0xcf8, %dx
	outl %eax, %dx
	movw $0xcfc, %dx
	inl %dx, %eax
	andl $0xfffffff0, %eax
	cmpl $0x10000000, %eax		/* that would be our own memory */
	jb again
	movl %eax, %edi
	call random
	movl %eax, %ecx
	andl $0x7fff, %eax
	testl $0x40000, %ecx
	jz 1f
	andl $0x3f, %eax		/* the common structure most of all */
1:	addl %eax, %edi
	jc again
	call value
	shrl $29, %ecx
	jz 2f
	decl %ecx
	jz 3f
	decl %ecx
	jz 4f
	movl %eax, (%edi)
	jmp again
2:	movb %al, (%edi)
	jmp again
3:	movw %ax, (%edi)
	jmp again
4:	movl (%edi), %eax
	jmp again

/* %eax: xorshift32. */
random:
	movl %ebp, %eax
	shll $13, %eax
	xorl %eax, %ebp
	movl %ebp, %eax
	shrl $17, %eax
	xorl %eax, %ebp
	movl %ebp, %eax
	shll $5, %eax
	xorl %eax, %ebp
	movl %ebp, %eax
	ret

/* %eax: a value that somebody may take for something: small, an address in the rings, all. */
value:
	call random
	pushl %ecx
	movl %eax, %ecx
	shrl $29, %ecx
	jz 1f
	decl %ecx
	jz 2f
	decl %ecx
	jz 3f
	decl %ecx
	jz 4f
	decl %ecx
	jz 5f
	popl %ecx
	ret
1:	xorl %eax, %eax
	popl %ecx
	ret
2:	movl $-1, %eax
	popl %ecx
	ret
3:	andl $0xff, %eax
	popl %ecx
	ret
4:	andl $0xffff, %eax
	orl $0x200000, %eax
	popl %ecx
	ret
5:	andl $0xf, %eax
	popl %ecx
	ret
	.org 0x7fc
	.long 0x12345678
